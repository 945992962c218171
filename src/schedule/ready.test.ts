import { expect, it } from 'vitest'
import type { Claim } from '../storage/claims.ts'
import { Ready } from './ready.ts'

const claim = (deliveryId: string, isFresh: boolean) => ({ deliveryId, isFresh }) as Claim

it('sends three that were never tried, then one that was', () => {
  const ready = new Ready()
  for (let i = 0; i < 5; i += 1) ready.push(claim(`r${i}`, false))
  for (let i = 0; i < 5; i += 1) ready.push(claim(`f${i}`, true))
  const order = Array.from({ length: 10 }, () => ready.shift()?.deliveryId)
  expect(order).toEqual(['f0', 'f1', 'f2', 'r0', 'f3', 'f4', 'r1', 'r2', 'r3', 'r4'])
  expect(ready.shift()).toBeUndefined()
  expect(ready.length).toBe(0)
})
