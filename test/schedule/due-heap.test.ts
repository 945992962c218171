import fc from 'fast-check'
import { expect, it } from 'vitest'
import { DueHeap } from '../../src/schedule/due-heap.ts'
import { Queue } from '../../src/schedule/queue.ts'

it('a heap gives what is due first, whatever is pushed and popped in between', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat({ max: 50 }), fc.constant(null))), (steps) => {
      const heap = new DueHeap<string>()
      const model: number[] = []
      for (const atMs of steps) {
        if (atMs === null) {
          model.sort((a, b) => a - b)
          expect(heap.pop()?.atMs).toBe(model.shift())
        } else {
          heap.push(atMs, `at ${atMs}`)
          model.push(atMs)
        }
        expect(heap.size).toBe(model.length)
        expect(heap.first?.atMs).toBe(model.length === 0 ? undefined : Math.min(...model))
        if (heap.first) expect(heap.first.item).toBe(`at ${heap.first.atMs}`)
      }
    }),
  )
})

it('a queue gives what came first, also after thousands have passed through it', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -300, max: 300 }), { maxLength: 40 }), (steps) => {
      const queue = new Queue<number>()
      const model: number[] = []
      let next = 0
      for (const step of steps) {
        for (let i = 0; i < step; i += 1) {
          queue.push(next)
          model.push(next)
          next += 1
        }
        for (let i = 0; i > step; i -= 1) expect(queue.shift()).toBe(model.shift())
        expect(queue.length).toBe(model.length)
      }
      expect(queue.takeAll()).toEqual(model)
      expect(queue.length).toBe(0)
      expect(queue.shift()).toBeUndefined()
    }),
  )
})
