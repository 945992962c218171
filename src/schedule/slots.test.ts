import { describe, expect, it } from 'vitest'
import { Lane } from './lane.ts'
import { Slots } from './slots.ts'

function slotsOf(max: number) {
  const lanes: Lane[] = []
  const slots = new Slots(max, lanes)
  const lane = (name: string) => {
    const made = new Lane(name, '')
    lanes.push(made)
    return made
  }
  /** Begins as many as it may, at most `count`. */
  const begin = (one: Lane, count: number, nowMs: number) => {
    let begun = 0
    while (begun < count && !slots.isFull(nowMs) && slots.mayBegin(one)) {
      slots.began(one, nowMs)
      begun += 1
    }
    return begun
  }
  return { slots, lane, begin }
}

describe('Slots', () => {
  it('gives all there are to lanes that answer', () => {
    const { lane, begin, slots } = slotsOf(10)
    const a = lane('a')
    expect(begin(a, 20, 0)).toBe(10)
    slots.ended(a, false, 5)
    expect(begin(a, 20, 5)).toBe(1)
    expect(slots.active).toBe(10)
  })

  it('gives half of them to lanes whose last attempt timed out', () => {
    const { lane, begin, slots } = slotsOf(10)
    const dead = [lane('x'), lane('y')] as const
    for (const one of dead) {
      begin(one, 1, 0)
      slots.ended(one, true, 0)
    }
    expect(begin(dead[0], 4, 0)).toBe(4)
    expect(begin(dead[1], 4, 0)).toBe(1)
    expect(begin(lane('a'), 9, 0)).toBe(5)
    slots.ended(dead[1], false, 0)
    expect(begin(dead[1], 9, 0)).toBe(1)
  })

  it('counts what hangs as half at the most, a second after it began', () => {
    const { lane, begin, slots } = slotsOf(10)
    const hanging = lane('h')
    const healthy = lane('a')
    expect(begin(hanging, 10, 0)).toBe(10)
    expect(begin(healthy, 1, 999)).toBe(0)
    expect(begin(healthy, 10, 1_100)).toBe(5)
    expect(begin(hanging, 1, 1_100)).toBe(0)
    expect(slots.active).toBe(15)
  })

  it('never gives twice as many as there are', () => {
    const { lane, begin, slots } = slotsOf(10)
    for (let second = 0; second < 10; second += 1) begin(lane(`h${second}`), 10, second * 1_100)
    expect(slots.active).toBe(20)
  })

  it('takes a lane for a good one again when it has answered', () => {
    const { lane, begin, slots } = slotsOf(4)
    const one = lane('a')
    begin(one, 4, 0)
    expect(slots.isFull(2_000)).toBe(false)
    expect(one.isStalled).toBe(true)
    slots.ended(one, false, 2_000)
    expect(one.isStalled).toBe(false)
    expect(slots.isFull(2_000)).toBe(false)
    expect(begin(one, 9, 2_000)).toBe(1)
  })
})
