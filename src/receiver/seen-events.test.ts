import { createRequire } from 'node:module'
import { describe, expect, it } from 'vitest'
import { manualClock } from '../testing/manual-clock.ts'
import { type SeenEvents, seenInMemory } from './seen-events.ts'
import { type QuerySql, type SeenInSqlOptions, seenEventsTable, seenInSql } from './sql.ts'

const day = 86_400_000

describe.each([
  ['in memory', seenInMemory],
  [
    'in SQL, parameters ?',
    (options: SeenInSqlOptions) => inSqlite({ ...options, placeholder: '?' }),
  ],
  ['in SQL, parameters $1', (options: SeenInSqlOptions) => inSqlite(options)],
])('seen events %s', (_, make) => {
  it('give one claim, and remember what became of it', async () => {
    const seen = make({})
    const claim = await claimOf(seen, 'evt_1')
    expect(await seen.begin('evt_1')).toBe('busy')
    expect(await seen.begin('evt_2')).toBeTypeOf('object')
    await claim.done()
    expect(await seen.begin('evt_1')).toBe('done')
  })

  it('give one claim to many that ask at one time', async () => {
    const seen = make({})
    const begun = await Promise.all(Array.from({ length: 20 }, () => seen.begin('evt_1')))
    expect(begun.filter((one) => typeof one === 'object')).toHaveLength(1)
  })

  it('give another claim when handling failed', async () => {
    const seen = make({})
    await (await claimOf(seen, 'evt_1')).failed()
    await (await claimOf(seen, 'evt_1')).done()
    expect(await seen.begin('evt_1')).toBe('done')
  })

  it('take over from a handler that never came back, and do not let it interfere', async () => {
    const clock = manualClock()
    const seen = make({ claimMs: 60_000, nowMs: clock.nowMs })
    const dead = await claimOf(seen, 'evt_1')
    clock.advance(59_999)
    expect(await seen.begin('evt_1')).toBe('busy')
    clock.advance(1)
    const begun = await Promise.all(Array.from({ length: 5 }, () => seen.begin('evt_1')))
    expect(begun.filter((one) => typeof one === 'object')).toHaveLength(1)
    await dead.failed()
    expect(await seen.begin('evt_1')).toBe('busy')
  })

  it('forget after the time that was set', async () => {
    const clock = manualClock()
    const seen = make({ keepMs: day, nowMs: clock.nowMs })
    await (await claimOf(seen, 'evt_1')).done()
    clock.advance(day - 1)
    expect(await seen.begin('evt_1')).toBe('done')
    clock.advance(1)
    expect(await seen.begin('evt_1')).toBeTypeOf('object')
  })
})

it('in memory keep to a bound, oldest first', async () => {
  const seen = seenInMemory({ maxEvents: 2 })
  for (const id of ['a', 'b', 'c']) await (await claimOf(seen, id)).done()
  expect(await seen.begin('b')).toBe('done')
  expect(await seen.begin('c')).toBe('done')
  expect(await seen.begin('a')).toBeTypeOf('object')
})

describe('in SQL', () => {
  it('tell receivers on one table apart', async () => {
    const { query } = sqlite()
    const orders = seenInSql(query, { receiver: 'orders' })
    const stock = seenInSql(query, { receiver: 'stock' })
    await (await claimOf(orders, 'evt_1')).done()
    expect(await stock.begin('evt_1')).toBeTypeOf('object')
    expect(await orders.begin('evt_1')).toBe('done')
  })

  it('refuse a name that could reach into the ids of another receiver', async () => {
    const { query } = sqlite()
    expect(() => seenInSql(query, { receiver: 'shop:eu' })).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID', message: expect.stringContaining('":"') }),
    )
    const [none, shop] = [seenInSql(query), seenInSql(query, { receiver: 'shop' })]
    await (await claimOf(none, 'shop:evt_1')).done()
    await (await claimOf(shop, 'eu:evt_1')).done()
    expect(await shop.begin('evt_1')).toBeTypeOf('object')
    expect(await shop.begin('eu:evt_1')).toBe('done')
  })

  it('let one take over even when another saw the old claim before and acts on it after', async () => {
    const clock = manualClock()
    const { query } = sqlite()
    const first = seenInSql(query, { nowMs: clock.nowMs })
    let taken: unknown
    const late: QuerySql = async (sql, values) => {
      if (sql.startsWith('update')) taken = await first.begin('evt_1')
      return query(sql, values)
    }
    const second = seenInSql(late, { nowMs: clock.nowMs })
    await first.begin('evt_1')
    await second.begin('evt_2') // forgets the old ones now, and not when it counts
    clock.advance(60_000)
    expect(await second.begin('evt_1')).toBe('busy')
    expect(taken).toBeTypeOf('object')
  })

  it('clear the table of what is forgotten', async () => {
    const clock = manualClock()
    const { query, count } = sqlite()
    const seen = seenInSql(query, { keepMs: day, nowMs: clock.nowMs })
    for (let i = 0; i < 10; i += 1) await (await claimOf(seen, `evt_${i}`)).done()
    expect(count()).toBe(10)
    clock.advance(day)
    await seen.begin('evt_new')
    expect(count()).toBe(1)
  })

  it('pass on what is wrong with the database', async () => {
    const query: QuerySql = async (sql) => {
      if (sql.startsWith('insert')) throw new Error('read-only')
      return []
    }
    await expect(seenInSql(query).begin('evt_1')).rejects.toThrow('read-only')
  })

  it('read numbers that come as texts', async () => {
    const { query } = sqlite()
    const asText: QuerySql = async (sql, values) =>
      (await query(sql, values)).map((row) =>
        Object.fromEntries(Object.entries(row).map(([name, value]) => [name, String(value)])),
      )
    const seen = seenInSql(asText)
    await (await claimOf(seen, 'evt_1')).done()
    expect(await seen.begin('evt_1')).toBe('done')
  })
})

async function claimOf(seen: SeenEvents, id: string) {
  const claim = await seen.begin(id)
  if (typeof claim === 'string') throw new Error(`expected a claim of ${id}, got ${claim}`)
  return claim
}

function inSqlite(options: SeenInSqlOptions): SeenEvents {
  return seenInSql(sqlite().query, options)
}

interface Database {
  exec(sql: string): void
  prepare(sql: string): { all(...values: unknown[]): Record<string, unknown>[] }
}

function sqlite(): { query: QuerySql; count: () => number } {
  const require = createRequire(import.meta.url)
  const { DatabaseSync } = require('@photostructure/sqlite') as {
    DatabaseSync: new (file: string) => Database
  }
  const database = new DatabaseSync(':memory:')
  database.exec(seenEventsTable)
  return {
    // A turn between statements, as with any server: what is not atomic shows.
    query: async (sql, values) => {
      await Promise.resolve()
      // SQLite takes `$1` for a name; `?1` is its spelling of a number.
      return database.prepare(sql.replaceAll(/\$(\d)/g, '?$1')).all(...values)
    },
    count: () =>
      Number(database.prepare('select count(*) as n from webhook_seen_event').all()[0]?.n),
  }
}
