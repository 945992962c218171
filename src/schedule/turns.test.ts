import { describe, expect, it } from 'vitest'
import { Lane } from './lane.ts'
import { Turns } from './turns.ts'

const lane = (name: string, tenantId = '') => new Lane(name, tenantId)

describe('Turns', () => {
  it('goes round the lanes of one tenant', () => {
    const turns = new Turns()
    const [a, b] = [lane('a'), lane('b')]
    turns.join(a)
    turns.join(b)
    turns.join(a)
    expect(turns.size).toBe(2)
    expect(turns.next()).toBe(a)
    turns.join(a)
    expect(turns.next()).toBe(b)
    expect(turns.next()).toBe(a)
    expect(turns.next()).toBeUndefined()
  })

  it('gives a tenant with one lane every second turn beside one with hundreds', () => {
    const turns = new Turns()
    for (let i = 0; i < 300; i += 1) turns.join(lane(`l${i}`, 'loud'))
    const quiet = lane('q', 'quiet')
    let quietTurns = 0
    turns.join(quiet)
    for (let i = 0; i < 100; i += 1) {
      if (turns.next() !== quiet) continue
      quietTurns += 1
      turns.join(quiet)
    }
    expect(quietTurns).toBe(50)
  })

  it('forgets a lane that leaves', () => {
    const turns = new Turns()
    const [a, b] = [lane('a', 'one'), lane('b', 'two')]
    turns.join(a)
    turns.join(b)
    turns.leave(a)
    turns.leave(a)
    expect(turns.has(a)).toBe(false)
    expect(turns.next()).toBe(b)
    expect(turns.size).toBe(0)
  })
})
