import { describe, expect, it } from 'vitest'
import { WebhookError } from '../model/errors.ts'
import { acceptMany } from './accept-many.ts'
import type { DispatchReceipt } from './handover.ts'

const receipt = (eventId: number) => ({ eventId: String(eventId) }) as DispatchReceipt
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

describe('acceptMany', () => {
  it('answers in the order of the events', async () => {
    const receipts = await acceptMany(
      numbers(12_000),
      (n) => n,
      async (n) => receipt(n),
    )
    expect(receipts.map(({ eventId }) => Number(eventId))).toEqual(numbers(12_000))
  })

  it('checks all before it stores any', async () => {
    let accepted = 0
    const check = (n: number) => {
      if (n === 900) throw new Error('bad')
      return n
    }
    const accept = async (n: number) => {
      accepted += 1
      return receipt(n)
    }
    await expect(acceptMany(numbers(1_000), check, accept)).rejects.toThrow('bad')
    expect(accepted).toBe(0)
  })

  it('lets the host breathe while it checks', async () => {
    let turns = 0
    let isChecking = true
    const turn = () => {
      turns += 1
      if (isChecking) setImmediate(turn)
    }
    setImmediate(turn)
    await acceptMany(
      numbers(3_000),
      (n) => n,
      async (n) => receipt(n),
    )
    isChecking = false
    expect(turns).toBeGreaterThan(1)
  })

  it('hands over no more than ten thousand at a time', async () => {
    let underWay = 0
    let most = 0
    const accept = async (n: number) => {
      underWay += 1
      most = Math.max(most, underWay)
      await new Promise(setImmediate)
      underWay -= 1
      return receipt(n)
    }
    await acceptMany(numbers(30_000), (n) => n, accept)
    expect(most).toBe(10_000)
  })

  it('stores the others when one id is of another event, and stops when the store takes nothing', async () => {
    const tried: number[] = []
    const failing = (code: 'EVENT_ID_CONFLICT' | 'BACKLOG_FULL') => async (n: number) => {
      tried.push(n)
      if (n === 3) throw new WebhookError(code, 'no')
      return receipt(n)
    }
    const conflict = acceptMany(numbers(20_000), (n) => n, failing('EVENT_ID_CONFLICT'))
    await expect(conflict).rejects.toMatchObject({ code: 'EVENT_ID_CONFLICT' })
    expect(tried).toHaveLength(20_000)
    tried.length = 0
    const full = acceptMany(numbers(20_000), (n) => n, failing('BACKLOG_FULL'))
    await expect(full).rejects.toMatchObject({ code: 'BACKLOG_FULL' })
    expect(tried.length).toBeLessThanOrEqual(10_000)
  })
})
