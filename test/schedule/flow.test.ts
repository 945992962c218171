// Breakers, slow start, rate limits and shares of lanes, on a clock that stands still.
import { describe, expect, it } from 'vitest'
import { freeFlow } from '../../src/model/flow.ts'
import { settled } from '../engine/fakes.ts'
import { numbers, setUp } from './stage.ts'

type Stage = ReturnType<typeof setUp>

/** So many failures of one endpoint in a row, the last so long after the first. */
async function fail(stage: Stage, count: number, overMs: number): Promise<void> {
  const { clock, store, end } = stage
  for (let i = 0; i < count; i += 1) {
    store('a', `fail${clock.nowMs()}_${i}`, clock.nowMs())
    await settled()
    if (i === count - 1) clock.advance(overMs)
    end('down', clock.nowMs())
    await settled()
  }
}

/** Opened at 10,000, for 30 s. */
async function opened(stage = setUp()): Promise<Stage> {
  stage.add('a')
  stage.scheduler.start()
  await fail(stage, 20, 10_000)
  expect(stage.told).toEqual(['open 40000'])
  return stage
}

describe('the breaker of a lane', () => {
  it('opens after 20 failures in a row that took 10 s, and not before', async () => {
    const stage = setUp()
    stage.add('a')
    stage.scheduler.start()
    await fail(stage, 19, 30_000)
    expect(stage.told).toEqual([])
    await fail(stage, 1, 0)
    expect(stage.told).toEqual(['open 60000'])
  })

  it('counts in a row: a success begins again', async () => {
    const stage = setUp()
    stage.add('a')
    stage.scheduler.start()
    await fail(stage, 19, 30_000)
    stage.store('a', 'good', 0)
    await settled()
    stage.end('up')
    await fail(stage, 19, 30_000)
    expect(stage.told).toEqual([])
  })

  it('is not opened by outcomes that say nothing of the endpoint', async () => {
    const { scheduler, add, store, clock, end, told } = setUp()
    add('a')
    scheduler.start()
    for (const i of numbers(40)) {
      store('a', i, 0)
      await settled()
      clock.advance(1_000)
      end('neither')
    }
    expect(told).toEqual([])
  })

  it('while open takes nothing, and gives back what waits in memory as it was', async () => {
    const stage = setUp()
    const { scheduler, clock, add, admit, asked, released, running, left } = stage
    add('a', { concurrency: 1 })
    scheduler.start()
    await fail(stage, 19, 9_000)
    admit('a', 'x')
    admit('a', 'y')
    clock.advance(1_000)
    stage.end('down')
    await settled()
    expect(stage.told).toHaveLength(1)
    // The second was begun before the breaker was open in the store; no other was.
    expect(running.length + released.length).toBe(1)
    expect(admit('a', 'z')).toBe(false)
    const asks = asked.length
    clock.advance(29_000)
    await settled()
    expect(asked).toHaveLength(asks)
    expect(left('a').length).toBe(released.length)
  })

  it('is half-open for one request, and closes with it', async () => {
    const stage = await opened()
    const { clock, store, running, told, end, asked, released } = stage
    for (const i of numbers(5)) store('a', i, clock.nowMs())
    clock.set(39_999)
    await settled()
    expect(running).toHaveLength(0)
    const asks = asked.length
    clock.set(40_000)
    await settled()
    expect(told.at(-1)).toBe('half-open 75000')
    expect(running).toHaveLength(1)
    expect(asked.slice(asks).map(({ rooms }) => rooms[0]?.limit)).toEqual([1])
    end('up')
    await settled()
    expect(told.at(-1)).toBe('closed 0')
    expect(released).toEqual([])
  })

  it('opens twice as long whenever the probe fails, up to five minutes', async () => {
    const stage = await opened()
    const { clock, store, told, end } = stage
    store('a', 'x', clock.nowMs())
    for (const lengthMs of [60_000, 120_000, 240_000, 300_000, 300_000]) {
      clock.set(stage.scheduler.nextDueAtMs)
      await settled()
      end('down')
      store('a', `x${clock.nowMs()}`, clock.nowMs())
      await settled()
      expect(told.at(-1)).toBe(`open ${clock.nowMs() + lengthMs}`)
    }
  })

  it('flaps: each time it is closed it takes 20 failures again', async () => {
    const stage = await opened()
    const { clock, store, told, end } = stage
    for (const i of numbers(5)) {
      store('a', `probe${i}`, clock.nowMs())
      clock.set(stage.scheduler.nextDueAtMs)
      await settled()
      end('up')
      await settled()
      await fail(stage, 19, 20_000)
      expect(told.at(-1)).toBe('closed 0')
      await fail(stage, 1, 0)
      expect(told.at(-1)).toBe(`open ${clock.nowMs() + 30_000}`)
    }
    expect(told.filter((one) => one.startsWith('open'))).toHaveLength(6)
    // Each request was for itself: the probes, and the failures that opened it.
    expect(stage.sent).toHaveLength(20 + 5 * 21)
  })

  it('correctness 14: ignores attempts that began before it changed', async () => {
    const stage = setUp()
    const { clock, scheduler, add, store, running, told, end } = stage
    add('a', { concurrency: 31 })
    scheduler.start()
    for (const i of numbers(30)) store('a', `old${i}`, 0)
    await settled()
    const old = running.splice(0, 30)
    await fail(stage, 20, 10_000)
    for (const one of old.slice(0, 10)) scheduler.finished(one, 'up', 0)
    await settled()
    expect(told).toEqual(['open 40000'])
    store('a', 'probe', clock.nowMs())
    clock.set(40_000)
    await settled()
    end('up')
    await settled()
    expect(told.at(-1)).toBe('closed 0')
    for (const one of old.slice(10)) {
      clock.advance(1_000)
      scheduler.finished(one, 'down', 0)
    }
    await settled()
    expect(told.at(-1)).toBe('closed 0')
  })

  it('lets another process probe when it has nothing to probe with', async () => {
    const stage = await opened()
    const { clock, told, scheduler, sent } = stage
    const before = sent.length
    // Told of one that another process has taken meanwhile.
    scheduler.stored('a', clock.nowMs())
    clock.set(40_000)
    await settled()
    expect(told.slice(1)).toEqual(['half-open 75000', 'open 40000'])
    expect(sent).toHaveLength(before)
  })

  it('that another process opened, probes and closes is kept to', async () => {
    const { scheduler, clock, add, admit, store, flows, running, told } = setUp()
    add('a')
    scheduler.start()
    const told1 = { ...freeFlow('a'), breaker: breaker('open', 1, 30_000) }
    flows.set('a', told1)
    scheduler.flowChanged(told1)
    expect(running).toHaveLength(0)
    expect(admit('a', '1')).toBe(false)
    store('a', 'x', 0)
    expect(scheduler.nextDueAtMs).toBe(30_000)
    // The other is faster.
    flows.set('a', { ...freeFlow('a'), breaker: breaker('half-open', 2, 65_000) })
    clock.set(30_000)
    await settled()
    expect(running).toHaveLength(0)
    expect(scheduler.nextDueAtMs).toBe(65_000)
    const closed = { ...freeFlow('a'), breaker: breaker('closed', 3, 0) }
    flows.set('a', closed)
    scheduler.flowChanged(closed)
    await settled()
    expect(running).toHaveLength(1)
    expect(told).toEqual([])
  })

  it('that is stored open is open, as after a restart', async () => {
    const { scheduler, clock, add, store, flows, running } = setUp()
    add('a')
    flows.set('a', { ...freeFlow('a'), breaker: breaker('open', 5, 7_000) })
    scheduler.start()
    store('a', 'x', 0)
    await settled()
    expect(running).toHaveLength(0)
    clock.set(7_000)
    await settled()
    expect(running).toHaveLength(1)
  })

  it('is changed once the store takes it again', async () => {
    const stage = setUp()
    const { scheduler, add, clock, told, failures, failChanges } = stage
    add('a')
    scheduler.start()
    failChanges(1)
    await fail(stage, 20, 10_000)
    expect([told, failures]).toEqual([[], ['no answer']])
    clock.advance(1_000)
    await settled()
    expect(told).toEqual(['open 40000'])
  })
})

describe('slow start', () => {
  it('after the breaker closed: 1, 2, 4, 8, then all', async () => {
    const stage = await opened()
    const { clock, store, running, end } = stage
    for (const i of numbers(200)) store('a', i, clock.nowMs())
    clock.set(40_000)
    await settled()
    const atOnce = [running.length]
    for (let round = 0; round < 6; round += 1) {
      end('up', clock.nowMs(), running.length)
      await settled()
      atOnce.push(running.length)
    }
    expect(atOnce).toEqual([1, 1, 2, 4, 8, 10, 10])
  })

  it('begins again with a failure', async () => {
    const stage = await opened()
    const { clock, store, running, end } = stage
    for (const i of numbers(200)) store('a', i, clock.nowMs())
    clock.set(40_000)
    await settled()
    for (let round = 0; round < 3; round += 1) {
      end('up', clock.nowMs(), running.length)
      await settled()
    }
    expect(running).toHaveLength(4)
    end('down', clock.nowMs(), 4)
    await settled()
    expect(running).toHaveLength(1)
  })
})

describe('the rate limit of a lane', () => {
  const limited = { rateLimit: { limit: 10, perMs: 1_000 } }

  it('sends at even intervals, never before a time and never in bursts', async () => {
    const { scheduler, clock, add, store, sent, end } = setUp()
    add('a', limited)
    scheduler.start()
    for (const i of numbers(30)) store('a', i, 0)
    const atMs: number[] = []
    for (let steps = 0; atMs.length < 30 && steps < 100; steps += 1) {
      await settled()
      while (atMs.length < sent.length) atMs.push(clock.nowMs())
      end('up')
      await settled()
      if (atMs.length < 30) clock.set(scheduler.nextDueAtMs)
    }
    const gaps = atMs.slice(1).map((ms, i) => ms - (atMs[i] ?? 0))
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(110)
    expect(atMs.at(-1)).toBe(29 * 110)
  })

  it('asks for times by the second, not for each request, and takes no more than it sends', async () => {
    const { scheduler, clock, add, store, sent, end, asked, asksForTimes, released } = setUp()
    add('a', { rateLimit: { limit: 100, perMs: 1_000 } })
    scheduler.start()
    for (const i of numbers(500)) store('a', i, 0)
    for (let steps = 0; sent.length < 500 && steps < 1_000; steps += 1) {
      await settled()
      end('up', clock.nowMs(), 100)
      await settled()
      if (sent.length < 500) clock.set(scheduler.nextDueAtMs)
    }
    expect(asksForTimes.length).toBeLessThanOrEqual(20)
    expect(asked.length).toBeLessThanOrEqual(14)
    expect(released).toEqual([])
    expect(clock.nowMs()).toBeLessThan(5_800)
  })

  it('loses times that passed while nothing could be sent', async () => {
    const { scheduler, clock, add, store, sent, congest } = setUp()
    add('a', limited)
    scheduler.start()
    for (const i of numbers(9)) store('a', i, 0)
    await settled()
    congest(true)
    clock.advance(5_000)
    congest(false)
    scheduler.pump()
    await settled()
    // The one at the start, and one now: what was missed is not made up for.
    expect(sent.length).toBeLessThanOrEqual(2)
  })

  it('is in force with the next request when it changes', async () => {
    const { scheduler, clock, add, store, sent, end } = setUp()
    add('a', { rateLimit: { limit: 1, perMs: 3_600_000 } })
    scheduler.start()
    for (const i of numbers(4)) store('a', i, 0)
    await settled()
    end('up')
    expect(sent).toHaveLength(1)
    add('a')
    scheduler.refresh('a')
    clock.advance(1)
    await settled()
    expect(sent).toHaveLength(4)
  })

  it('waits without unrest: what is sent later is not due now', async () => {
    const { scheduler, add, store, end } = setUp()
    add('a', limited)
    scheduler.start()
    for (const i of numbers(5)) store('a', i, 0)
    await settled()
    end('up')
    await settled()
    expect(scheduler.isQuiet).toBe(true)
    expect(scheduler.isDrained).toBe(false)
    expect(scheduler.nextDueAtMs).toBe(110)
  })

  it('of another process takes times in between', async () => {
    const { scheduler, clock, add, store, sent, flows } = setUp()
    add('a', limited)
    flows.set('a', { ...freeFlow('a'), nextSendAtMs: 700 })
    scheduler.start()
    store('a', 'x', 0)
    await settled()
    clock.set(699)
    await settled()
    expect(sent).toHaveLength(0)
    clock.set(700)
    await settled()
    expect(sent).toHaveLength(1)
  })
})

describe('the share of a process', () => {
  it('is what a lane has under way, and nothing is claimed for a share of none', async () => {
    const { scheduler, add, store, admit, running, shares, asked, released } = setUp()
    add('a')
    add('b')
    shares.set('a', 2).set('b', 0)
    scheduler.start()
    for (const i of numbers(5)) store('a', i, 0)
    for (const i of numbers(5)) store('b', i, 0)
    await settled()
    expect(running).toHaveLength(2)
    expect(admit('b', 'x')).toBe(false)
    expect(asked.every(({ rooms }) => rooms.every((room) => room.endpointKey === 'a'))).toBe(true)
    expect(released).toEqual([])
  })

  it('that shrinks is kept to once what is under way has ended', async () => {
    const { scheduler, add, store, end, running, shares } = setUp()
    add('a')
    scheduler.start()
    for (const i of numbers(30)) store('a', i, 0)
    await settled()
    expect(running).toHaveLength(10)
    shares.set('a', 4)
    expect(scheduler.sharesChanged()).toBe(false)
    end('up', 0, 6)
    expect(running).toHaveLength(4)
    expect(scheduler.sharesChanged()).toBe(true)
    shares.set('a', 6)
    scheduler.sharesChanged()
    await settled()
    expect(running).toHaveLength(6)
  })

  /** How many the lane takes until it wants no more. */
  function admitted({ admit, clock }: ReturnType<typeof setUp>): number {
    let count = 0
    while (count < 5_000 && admit('a', `${clock.nowMs()}_${count}`)) count += 1
    return count
  }

  it('holds no more than it sends in a second: others have room for the rest', async () => {
    const stage = setUp()
    const { scheduler, clock, add, admit, end, shares, running } = stage
    add('a')
    shares.set('a', 2)
    scheduler.start()
    clock.advance(1_000)
    // Two are sent at a time; that each takes a tenth of a second is assumed.
    expect(admitted(stage)).toBe(2 + 20)
    for (let i = 0; i < 60; i += 1) {
      end('up', clock.nowMs() - 10)
      admit('a', `quick_${i}`)
    }
    expect(running).toHaveLength(2)
    expect(admitted(stage)).toBeGreaterThan(150)
    // Slow ones: it has more than enough.
    for (let i = 0; i < 100; i += 1) end('up', clock.nowMs() - 500)
    expect(admitted(stage)).toBe(0)
  })

  it('that becomes one gives back what it will not send soon', async () => {
    const stage = setUp()
    const { scheduler, add, shares, released, running } = stage
    add('a')
    scheduler.start()
    const alone = admitted(stage)
    expect(alone).toBeGreaterThan(1_000)
    shares.set('a', 2)
    scheduler.sharesChanged()
    expect(released).toHaveLength(alone - 10)
    expect(running).toHaveLength(10)
  })

  it('of none gives back what waits in memory', async () => {
    const { scheduler, add, admit, running, released, shares, left } = setUp()
    add('a', { concurrency: 1 })
    scheduler.start()
    for (const i of numbers(4)) admit('a', i)
    shares.set('a', 0)
    expect(scheduler.sharesChanged()).toBe(false)
    await settled()
    expect(running).toHaveLength(1)
    expect(released).toHaveLength(3)
    expect(left('a')).toHaveLength(3)
  })

  it('of none gives it back also where the limit of the endpoint was changed', async () => {
    const { scheduler, add, admit, running, released, shares } = setUp()
    add('a', { concurrency: 4 })
    shares.set('a', 2)
    scheduler.start()
    for (const i of numbers(4)) admit('a', i)
    // Fewer requests than there are processes.
    add('a', { concurrency: 1 })
    shares.set('a', 0)
    scheduler.refresh('a')
    await settled()
    expect(running).toHaveLength(2)
    expect(released).toHaveLength(2)
  })
})

describe('a process that does not deliver', () => {
  it('keeps nothing, asks for nothing and is at rest', async () => {
    const { scheduler, add, admit, store, asked, running } = setUp({ delivers: false })
    add('a')
    scheduler.start()
    expect(admit('a', '1')).toBe(false)
    store('a', 'x', 0)
    await settled()
    expect([asked.length, running.length]).toEqual([0, 0])
    expect(scheduler.isDrained).toBe(true)
  })
})

function breaker(state: 'open' | 'half-open' | 'closed', epoch: number, untilMs: number) {
  return { state, epoch, untilMs, openings: 1 }
}
