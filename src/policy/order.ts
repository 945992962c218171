/** Which events have an order among each other. Pure. */
import type { EndpointOrdering } from '../model/endpoint.ts'

/** Keys that begin with the same 512 characters are one: too much order, never too little. */
const maxKeyLength = 512

/** The value in `metadata` that a key was made of, as text. */
export function valueOfOrderKey(key: string): string {
  return key.slice(key.indexOf(' ') + 1)
}

/** @returns null for an event that has no order */
export function orderKeyOf(
  { key }: EndpointOrdering,
  metadata: Readonly<Record<string, unknown>>,
): string | null {
  const value = Object.hasOwn(metadata, key) ? metadata[key] : undefined
  if (!['string', 'number', 'boolean'].includes(typeof value)) return null
  return `${typeof value} ${value}`.slice(0, maxKeyLength)
}
