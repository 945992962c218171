/**
 * What is to happen when: deliveries in the store become due, holds and breakers end, send times of
 * rate limits come. Two alarms wait for the next of each; without them nothing here looks at the time.
 */
import type { Clock } from '../model/clock.ts'
import type { Store } from '../storage/storage.ts'
import { Alarm } from './alarm.ts'
import type { Breakers } from './breakers.ts'
import { never } from './due-heap.ts'
import type { Lane } from './lane.ts'
import type { Pace } from './pace.ts'
import { Pacer } from './pacer.ts'
import type { Precedence } from './precedence.ts'
import type { Reader } from './reader.ts'
import type { Telling } from './telling.ts'

export interface AgendaTools {
  readonly clock: Clock
  readonly store: Pick<Store, 'takeSendTimes'>
  readonly flows: Telling
  readonly reader: Reader
  readonly breakers: Breakers
  readonly precedence: Precedence
  /** Nothing is sent any more, or not yet. */
  readonly isStopped: () => boolean
  /** Begins all that may begin now. */
  readonly pump: () => void
  readonly rested: () => void
}

export class Agenda {
  readonly #tools: AgendaTools
  readonly #alarm: Alarm<Lane>
  readonly #sendAlarm: Alarm<Pace>
  readonly #pacer: Pacer

  constructor(tools: AgendaTools) {
    this.#tools = tools
    this.#alarm = new Alarm(tools.clock, () => this.wake())
    this.#sendAlarm = new Alarm(tools.clock, () => this.wake())
    this.#pacer = new Pacer({
      ...tools,
      paced: (lane) => {
        tools.precedence.join(lane)
        tools.pump()
        this.pace(lane)
      },
    })
  }

  /** `never` when nothing is. */
  get nextAtMs(): number {
    return Math.min(this.#alarm.nextAtMs, this.#sendAlarm.nextAtMs)
  }

  /** No send times are being asked for. */
  get isQuiet(): boolean {
    return this.#pacer.isQuiet
  }

  stop(): void {
    this.#alarm.cancel()
    this.#sendAlarm.cancel()
    this.#pacer.stop()
  }

  hurry(): void {
    this.#pacer.hurry()
  }

  /** Looks at the clock: lanes that have become due are asked for, the timers wait for the next. */
  wake(): void {
    const { clock, precedence, isStopped, pump } = this.#tools
    if (isStopped()) return
    const nowMs = clock.nowMs()
    for (;;) {
      const lane = this.#alarm.takeDue(nowMs)
      if (lane === undefined) break
      this.#ask(lane)
      precedence.join(lane)
    }
    for (;;) {
      const pace = this.#sendAlarm.takeDue(nowMs)
      if (pace === undefined) break
      precedence.join(pace.lane)
      // Times may have passed unused while all requests were under way.
      this.pace(pace.lane)
    }
    pump()
    if (isStopped()) return
    this.#alarm.arm()
    this.#sendAlarm.arm()
  }

  /** What the store has of a lane may be due earlier than was known. */
  watch(lane: Lane): void {
    const { clock, reader } = this.#tools
    const atMs = lane.claimAtMs
    if (atMs === never) return
    if (atMs <= clock.nowMs()) {
      this.#ask(lane)
      reader.ask()
      return
    }
    this.#alarm.watch(lane)
  }

  /** A lane that runs low and has due deliveries in the store asks for them. */
  want(lane: Lane): void {
    if (lane.claimAtMs <= this.#tools.clock.nowMs()) this.#ask(lane)
  }

  /** Sees to it that the lane has send times, and is woken for the next. */
  pace(lane: Lane): void {
    const { pace } = lane
    if (pace === null) return
    const nowMs = this.#tools.clock.nowMs()
    if (pace.missing(nowMs) > 0) this.#pacer.want(lane)
    const atMs = pace.alarmAtMs
    // A time that has come is used when a request has ended.
    if (atMs !== never && atMs > nowMs) this.#sendAlarm.watch(pace)
  }

  /** For deliveries, or when the next is due; or, while the breaker is not closed, whether it may probe with one. */
  #ask(lane: Lane): void {
    const { reader, breakers, isStopped } = this.#tools
    const mayClaim = lane.breaker.state === 'closed' || lane.probe === 'next'
    if (mayClaim || lane.mustLook) reader.want(lane)
    else if (!isStopped()) breakers.askToProbe(lane)
  }
}
