import { describe, expect, it } from 'vitest'
import { AcceptQueue } from './accept-queue.ts'
import type { PendingAccept } from './pending-group.ts'

let atMs = 0
function pending(tenantId: string, weight = 1): PendingAccept {
  atMs += 1
  return { weight, record: { event: { tenantId, acceptedAtMs: atMs } } } as PendingAccept
}

const tenantsOf = (taken: readonly PendingAccept[]) =>
  taken.map(({ record }) => record.event.tenantId)

describe('AcceptQueue', () => {
  it('takes what one tenant has in its order, up to the weight', () => {
    const queue = new AcceptQueue()
    const all = Array.from({ length: 5 }, () => pending('a', 3))
    for (const one of all) queue.push(one)
    expect(queue.take(10)).toEqual(all.slice(0, 3))
    expect(queue.take(10)).toEqual(all.slice(3))
    expect(queue.length).toBe(0)
  })

  it('takes one that is heavier than everything', () => {
    const queue = new AcceptQueue()
    queue.push(pending('a', 50))
    queue.push(pending('a', 1))
    expect(queue.take(10)).toHaveLength(1)
    expect(queue.take(10)).toHaveLength(1)
  })

  it('has what a quiet tenant brings in the next commit, however much another has', () => {
    const queue = new AcceptQueue()
    for (let i = 0; i < 20_000; i += 1) queue.push(pending('loud'))
    for (const tenant of ['x', 'y', 'z']) queue.push(pending(tenant))
    const taken = tenantsOf(queue.take(10_000))
    expect(taken).toContain('x')
    expect(taken).toContain('y')
    expect(taken).toContain('z')
    expect(taken).toHaveLength(2_500)
  })

  it('gives turns of the same size to tenants that all have much', () => {
    const queue = new AcceptQueue()
    for (let i = 0; i < 5_000; i += 1)
      for (const tenant of ['a', 'b', 'c']) queue.push(pending(tenant))
    const taken = [...tenantsOf(queue.take(10_000)), ...tenantsOf(queue.take(10_000))]
    for (const tenant of ['a', 'b', 'c']) {
      const share = taken.filter((one) => one === tenant).length / taken.length
      expect(share).toBeGreaterThan(0.3)
    }
  })

  it('gives up those that are too old, and knows the oldest', () => {
    const queue = new AcceptQueue()
    const [first, second, third] = [pending('a'), pending('b'), pending('a')]
    for (const one of [first, second, third]) queue.push(one)
    expect(queue.oldestMs).toBe(first.record.event.acceptedAtMs)
    expect(queue.takeOlder(second.record.event.acceptedAtMs)).toEqual([first, second])
    expect(queue.takeAll()).toEqual([third])
    expect(queue.oldestMs).toBeNull()
  })
})
