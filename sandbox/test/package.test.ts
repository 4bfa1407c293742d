import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { buildPackage } from '../scripts/build-package.ts'

const require = createRequire(import.meta.url)

/** Where an installed package lies. */
function folderOf(name: string): string {
  return dirname(require.resolve(`${name}/package.json`))
}

test('the published package runs as plain JavaScript under node_modules, and carries its types', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sandbox-package-'))
  try {
    const modules = join(folder, 'node_modules')
    buildPackage(join(modules, '@tollgate/stripe-sandbox'))
    mkdirSync(join(modules, '@types'))
    symlinkSync(folderOf('@types/node'), join(modules, '@types/node'))
    symlinkSync(join(dirname(require.resolve('pdfkit')), '..'), join(modules, 'pdfkit'))
    writeFileSync(join(folder, 'package.json'), '{"type": "module"}')
    const program = (type: string) => `import { startSandbox, type Sandbox } from '@tollgate/stripe-sandbox'
      const sandbox: Sandbox = await startSandbox({ clock: { frozen: 1768478400 } })
      const port: ${type} = sandbox.port
      const answer = await fetch(sandbox.url + '/v1/customers', { headers: { authorization: 'Bearer sk_test_x' } })
      console.log(typeof port, answer.status)
      await sandbox.stop()`
    writeFileSync(join(folder, 'right.ts'), program('number'))
    writeFileSync(join(folder, 'wrong.ts'), program('string'))
    const compiler = join(folderOf('typescript'), 'bin/tsc')
    const check = (file: string) =>
      execFileSync(
        process.execPath,
        [
          compiler,
          '--noEmit',
          '--module',
          'nodenext',
          '--target',
          'es2024',
          '--strict',
          '--skipLibCheck',
          '--types',
          'node',
          file,
        ],
        { cwd: folder, encoding: 'utf8' },
      )
    expect(check('right.ts')).toBe('')
    expect(() => check('wrong.ts')).toThrow('Command failed')
    expect(execFileSync(process.execPath, ['right.ts'], { cwd: folder, encoding: 'utf8' })).toBe('number 200\n')
    const bin = join(modules, '@tollgate/stripe-sandbox/bin/stripe-sandbox.mjs')
    expect(execFileSync(process.execPath, [bin, '--help'], { encoding: 'utf8' })).toContain('stripe-sandbox trigger EVENT')
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
