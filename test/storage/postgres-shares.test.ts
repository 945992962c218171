import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Sharer, Shares } from '../../src/storage/postgres/shares.ts'

const keys = ['a', 'b', 'c', 'aaaaaaaa', 'zzzzzzzz']

const step = (what: string, who: number) => ({ what, who })

describe('shares', () => {
  const agreed = (count: number): Shares[] => {
    const all = Array.from({ length: count }, () => new Shares())
    const said = all.map(() => '')
    for (let round = 0; round < 3; round += 1) {
      for (const [i, shares] of all.entries()) {
        const rows = said.map((keepsTo, id) => ({ id, keepsTo }))
        shares.saw(i, rows)
        said[i] = shares.toSay(i, rows) ?? said[i] ?? ''
      }
    }
    return all
  }

  it.each([
    [1, 10],
    [3, 10],
    [4, 10],
    [3, 1],
    [7, 3],
    [5, 5],
  ])('of %i processes that agree are all of %i', (count, concurrency) => {
    const all = agreed(count)
    for (const key of keys) {
      const parts = all.map((shares) => shares.of(key, concurrency))
      expect(parts.reduce((a, b) => a + b)).toBe(concurrency)
      expect(Math.max(...parts) - Math.min(...parts)).toBeLessThanOrEqual(1)
    }
  })

  it('of endpoints with one request at a time do not all go to the same process', () => {
    const all = agreed(3)
    const owners = new Set(
      Array.from({ length: 50 }, (_, n) => all.findIndex((one) => one.of(`key${n}`, 1) === 1)),
    )
    expect(owners).toEqual(new Set([0, 1, 2]))
  })

  it('are all of it for one that is alone, once it has said so', () => {
    const shares = new Shares()
    expect(shares.of('a', 10)).toBe(0)
    expect(shares.saw(4, [{ id: 4, keepsTo: '' }])).toBe(true)
    expect(shares.of('a', 10)).toBe(0)
    const keepsTo = shares.toSay(4, [{ id: 4, keepsTo: '' }]) ?? ''
    expect(shares.saw(4, [{ id: 4, keepsTo }])).toBe(true)
    expect(shares.of('a', 10)).toBe(10)
    expect(shares.toSay(4, [{ id: 4, keepsTo }])).toBeNull()
  })

  it('of those who live are nearly their parts while others die faster than they are missed', () => {
    let rows: Sharer[] = []
    const living = new Map<number, Shares>()
    for (let id = 1; id <= 30; id += 1) {
      rows.push({ id, keepsTo: '' })
      living.set(id, new Shares())
      // Three live, three more are dead and not yet missed.
      if (id > 3) living.delete(id - 3)
      rows = rows.filter((row) => row.id > id - 6)
      for (let round = 0; round < 3; round += 1) {
        for (const [own, shares] of living) {
          shares.saw(own, rows)
          const said = shares.toSay(own, rows)
          if (said !== null)
            rows = rows.map((row) => (row.id === own ? { id: own, keepsTo: said } : row))
          shares.saw(own, rows)
        }
      }
      const parts = [...living.values()].map((shares) => shares.of('a', 60))
      if (id > 12) expect(parts.reduce((a, b) => a + b)).toBeGreaterThanOrEqual(24)
    }
  })

  // Processes that come, die and look at each other in any order, while requests begin and end.
  const steps = fc.array(
    fc.record({
      what: fc.constantFrom('look', 'look', 'look', 'send', 'end', 'join', 'die'),
      who: fc.nat(11),
    }),
    { minLength: 30, maxLength: 120, size: 'max' },
  )

  /** Two took the third at its word, one of them dies, and the third sees a list without it. */
  const oneDies = [
    ...[step('look', 0), step('join', 0), step('join', 0), step('look', 0), step('look', 2)],
    ...[step('look', 1), step('look', 2), step('die', 1), step('look', 0)],
    ...[step('send', 1), step('send', 0)],
  ]

  it('correctness 14: never let all together have more under way than the limit', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 7 }), (taken, concurrency) => {
        const rows: Sharer[] = []
        const processes = new Map<number, { shares: Shares; active: Map<string, number> }>()
        let lastId = 0
        const join = () => {
          lastId += 1
          rows.push({ id: lastId, keepsTo: '' })
          processes.set(lastId, { shares: new Shares(), active: new Map() })
        }
        const under = (key: string) =>
          [...processes.values()].reduce((sum, { active }) => sum + (active.get(key) ?? 0), 0)
        join()
        for (const { what, who } of taken) {
          if (what === 'join' && rows.length < 4) join()
          const row = rows[who % rows.length]
          const one = row && processes.get(row.id)
          if (row === undefined || one === undefined) continue
          const { shares, active } = one
          if (what === 'end') active.clear()
          if (what === 'send') {
            for (const key of keys) {
              active.set(key, Math.max(active.get(key) ?? 0, shares.of(key, concurrency)))
            }
          }
          if (what === 'die' && rows.length > 1) {
            rows.splice(rows.indexOf(row), 1)
            processes.delete(row.id)
          }
          if (what === 'look') {
            shares.saw(row.id, rows)
            const said = shares.toSay(row.id, rows)
            const isWithin = [...active].every(([of, n]) => n <= shares.of(of, concurrency))
            if (said !== null && isWithin) rows[rows.indexOf(row)] = { ...row, keepsTo: said }
          }
          for (const each of keys) expect(under(each)).toBeLessThanOrEqual(concurrency)
        }
      }),
      { numRuns: 1_000, examples: [[oneDies, 1]] },
    )
  })
})
