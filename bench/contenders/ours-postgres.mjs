// What @k-msg/webhook asks of PostgreSQL, counted where it leaves the process: every call of
// `query` is one round trip.

import { createRequire } from 'node:module'

export async function postgresStorage({ host, port, user, database }) {
  const entry = import.meta.resolve('@k-msg/webhook/postgres')
  const { postgres } = await import(entry)
  // The very `pg` that the package uses, not the one of the bench.
  const { Client } = createRequire(entry)('pg')
  let count = 0
  const { query } = Client.prototype
  Client.prototype.query = function counted(...args) {
    count++
    return query.apply(this, args)
  }
  return {
    storage: postgres(`postgres://${user}@${host}:${port}/${database}`),
    roundTrips: () => count,
  }
}
