import { describe, expect, it } from 'vitest'
import { WebhookError } from '../model/errors.ts'
import { acceptMany } from './accept-many.ts'
import type { AcceptAnswers } from './acceptor.ts'
import type { DispatchReceipt } from './handover.ts'

const receipt = (eventId: number) => ({ eventId: String(eventId) }) as DispatchReceipt
/** Takes every event at once. */
const take = (n: number, index: number, answers: AcceptAnswers) =>
  answers.accepted(index, receipt(n))
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

describe('acceptMany', () => {
  it('answers in the order of the events', async () => {
    const receipts = await acceptMany(numbers(12_000), (n) => n, take)
    expect(receipts.map(({ eventId }) => Number(eventId))).toEqual(numbers(12_000))
  })

  it('checks all before it stores any', async () => {
    let accepted = 0
    const check = (n: number) => {
      if (n === 900) throw new Error('bad')
      return n
    }
    const accept = () => {
      accepted += 1
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
    await acceptMany(numbers(3_000), (n) => n, take)
    isChecking = false
    expect(turns).toBeGreaterThan(1)
  })

  it('has no more than 7,500 under way at a time', async () => {
    let underWay = 0
    let most = 0
    const accept = (n: number, index: number, answers: AcceptAnswers) => {
      underWay += 1
      most = Math.max(most, underWay)
      setImmediate(() => {
        underWay -= 1
        take(n, index, answers)
      })
    }
    await acceptMany(numbers(30_000), (n) => n, accept)
    expect(most).toBeLessThanOrEqual(7_500)
    expect(underWay).toBe(0)
  })

  it('stores the others when one id is of another event, and stops when the store takes nothing', async () => {
    const tried: number[] = []
    const failing =
      (code: 'EVENT_ID_CONFLICT' | 'BACKLOG_FULL') =>
      (n: number, index: number, answers: AcceptAnswers) => {
        tried.push(n)
        if (n === 3) answers.refused(index, new WebhookError(code, 'no'))
        else take(n, index, answers)
      }
    const conflict = acceptMany(numbers(20_000), (n) => n, failing('EVENT_ID_CONFLICT'))
    await expect(conflict).rejects.toMatchObject({ code: 'EVENT_ID_CONFLICT' })
    expect(tried).toHaveLength(20_000)
    tried.length = 0
    const full = acceptMany(numbers(20_000), (n) => n, failing('BACKLOG_FULL'))
    await expect(full).rejects.toMatchObject({ code: 'BACKLOG_FULL' })
    expect(tried.length).toBeLessThanOrEqual(7_500)
  })
})
