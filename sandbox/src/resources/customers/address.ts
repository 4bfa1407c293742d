type AddressParam = Partial<Record<'city' | 'country' | 'line1' | 'line2' | 'postal_code' | 'state', string>>

export interface Address {
  city: string | null
  country: string | null
  line1: string | null
  line2: string | null
  postal_code: string | null
  state: string | null
}

/** An address as it is stored: every field, null where nothing was given. */
export function addressOf(param: AddressParam): Address {
  const field = (value: string | undefined) => (value === undefined || value === '' ? null : value)
  return {
    city: field(param.city),
    country: field(param.country),
    line1: field(param.line1),
    line2: field(param.line2),
    postal_code: field(param.postal_code),
    state: field(param.state),
  }
}
