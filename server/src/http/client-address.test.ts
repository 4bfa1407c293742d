import { describe, expect, it } from 'vitest'
import { clientAddress, readTrustedProxies } from './client-address.ts'

const from = (remoteAddress: string) => ({ incoming: { socket: { remoteAddress } } })

describe('the address of a caller', () => {
  const proxies = readTrustedProxies(['10.0.0.0/8', '::1'])

  it('is the other end of the connection, whatever the caller claims', () => {
    expect(clientAddress(from('203.0.113.7'), '198.51.100.1', [])).toBe('203.0.113.7')
    expect(clientAddress(from('::ffff:203.0.113.7'), null, [])).toBe('203.0.113.7')
  })

  it('is what our own proxies saw, and no address further left', () => {
    expect(clientAddress(from('10.1.1.1'), '6.6.6.6, 203.0.113.7, 10.9.9.9', proxies)).toBe('203.0.113.7')
    expect(clientAddress(from('::1'), '203.0.113.7', proxies)).toBe('203.0.113.7')
  })

  it('is not known without a connection, or where a proxy says nothing of use', () => {
    expect(clientAddress({}, '203.0.113.7', proxies)).toBeNull()
    expect(clientAddress(from('10.1.1.1'), null, proxies)).toBeNull()
    expect(clientAddress(from('10.1.1.1'), 'unknown', proxies)).toBeNull()
  })

  it('refuses a proxy that is no address', () => {
    expect(() => readTrustedProxies(['proxy.internal'])).toThrow('address')
  })
})
