/**
 * What an endpoint may ask of an event's `data`: a small language of our own, written in JSON. No
 * regular expressions: a customer's filter runs for every event, and must end at once.
 */
export type FilterScalar = string | number | boolean | null

/** Names from `data` inwards: `'order.amount'`, or `['order', 'a.b']` where a name has a dot. */
export type FilterPath = string | readonly string[]

/** One test of one place. A place that is not there fails every test but `exists: false`. */
export type BodyTest = { path: FilterPath } & (
  | { eq: FilterScalar }
  | { in: readonly FilterScalar[] }
  | { gt: number | string }
  | { lt: number | string }
  | { exists: boolean }
  | { prefix: string }
)

export type BodyFilter =
  | BodyTest
  | { and: readonly BodyFilter[] }
  | { or: readonly BodyFilter[] }
  | { not: BodyFilter }
