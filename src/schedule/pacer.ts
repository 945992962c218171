/** Asks the store for send times, for all lanes that need some at once. Sends nothing. */
import type { Clock } from '../model/clock.ts'
import { takenAheadMs } from '../policy/rate.ts'
import type { SendTimes, SendTimesAsk } from '../storage/flows.ts'
import type { Store } from '../storage/storage.ts'
import type { Lane } from './lane.ts'
import type { Telling } from './telling.ts'

export interface PacerTools {
  readonly store: Pick<Store, 'takeSendTimes'>
  readonly clock: Clock
  readonly flows: Telling
  /** The lane has new send times. */
  readonly paced: (lane: Lane) => void
  readonly rested: () => void
}

/** When the store cannot be asked, nothing is asked for this long. */
const askAgainMs = 200

export class Pacer {
  readonly #tools: PacerTools
  readonly #wanting = new Set<Lane>()
  #asking = false
  #stopped = false
  #cancelRetry: (() => void) | null = null

  constructor(tools: PacerTools) {
    this.#tools = tools
  }

  get isQuiet(): boolean {
    return !this.#asking && this.#wanting.size === 0
  }

  want(lane: Lane): void {
    if (this.#stopped) return
    this.#wanting.add(lane)
    this.#ask()
  }

  /** Asks again now, if it waits for that. */
  hurry(): void {
    this.#cancelRetry?.()
  }

  stop(): void {
    this.#stopped = true
    this.#wanting.clear()
    this.#cancelRetry?.()
  }

  #ask(): void {
    if (this.#asking || this.#wanting.size === 0) return
    const nowMs = this.#tools.clock.nowMs()
    const lanes = new Map<string, Lane>()
    const asks: SendTimesAsk[] = []
    for (const lane of this.#wanting) {
      const count = lane.pace?.missing(nowMs) ?? 0
      if (lane.pace === null || count === 0) continue
      const { endpointKey } = lane
      lanes.set(endpointKey, lane)
      asks.push({ endpointKey, count, intervalMs: lane.pace.intervalMs })
    }
    this.#wanting.clear()
    if (asks.length === 0) return
    this.#asking = true
    this.#tools.store.takeSendTimes(asks, nowMs, nowMs + takenAheadMs).then(
      (times) => this.#got(lanes, times),
      (error: unknown) => this.#failed(lanes, error),
    )
  }

  #got(lanes: ReadonlyMap<string, Lane>, given: readonly SendTimes[]): void {
    this.#asking = false
    this.#tools.flows.worked()
    for (const times of given) {
      const lane = lanes.get(times.endpointKey)
      // Of another limit than the lane has by now: lost.
      if (lane?.pace?.intervalMs !== times.intervalMs) continue
      lane.pace.add(times)
    }
    for (const lane of lanes.values()) this.#tools.paced(lane)
    this.#ask()
    this.#tools.rested()
  }

  #failed(lanes: ReadonlyMap<string, Lane>, error: unknown): void {
    this.#tools.flows.failed(error)
    const again = () => {
      this.#cancelRetry = null
      this.#asking = false
      for (const lane of lanes.values()) this.want(lane)
      this.#tools.rested()
    }
    const cancel = this.#tools.clock.setTimer(again, askAgainMs)
    this.#cancelRetry = () => {
      cancel()
      again()
    }
  }
}
