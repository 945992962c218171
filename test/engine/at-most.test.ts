import { expect, it } from 'vitest'
import { AtMost } from '../../src/engine/at-most.ts'

it('runs so many at a time, the rest in order, also after one that fails', async () => {
  const atMost = new AtMost(2)
  const started: number[] = []
  const ends: (() => void)[] = []
  const work = (n: number, fails = false) =>
    atMost.run(
      () =>
        new Promise<number>((resolve, reject) => {
          started.push(n)
          ends[n] = () => (fails ? reject(new Error('failed')) : resolve(n))
        }),
    )
  const all = [work(0, true), work(1), work(2), work(3)]
  const outcomes = Promise.allSettled(all)
  await new Promise(setImmediate)
  expect(started).toEqual([0, 1])
  ends[0]?.()
  await new Promise(setImmediate)
  expect(started).toEqual([0, 1, 2])
  ends[1]?.()
  ends[2]?.()
  await new Promise(setImmediate)
  ends[3]?.()
  expect((await outcomes).map(({ status }) => status)).toEqual([
    'rejected',
    'fulfilled',
    'fulfilled',
    'fulfilled',
  ])
  expect(await atMost.run(() => Promise.resolve('free again'))).toBe('free again')
})
