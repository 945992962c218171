/**
 * The breakers of lanes: counts what attempts say of their endpoints, and changes a breaker in the
 * store, for all processes. What the rules are is in policy/breaker.ts; who may send because of it is
 * the lane's to know.
 */
import type { Clock } from '../model/clock.ts'
import type { Breaker, EndpointFlow } from '../model/flow.ts'
import {
  afterFailure,
  afterSuccess,
  closed,
  halfOpened,
  mayProbe,
  mustOpen,
  noFailures,
  opened,
  reopened,
  unprobed,
} from '../policy/breaker.ts'
import type { Claim } from '../storage/claims.ts'
import type { Store } from '../storage/storage.ts'
import type { Lane } from './lane.ts'
import type { Telling } from './telling.ts'

/** What an attempt said of its endpoint, see `verdictOf`. */
export type Verdict = 'up' | 'down' | 'neither'

export interface BreakerTools {
  readonly store: Pick<Store, 'changeBreaker'>
  /** As far as is known. */
  readonly flow: (endpointKey: string) => EndpointFlow
  readonly clock: Clock
  readonly flows: Telling
  /** The lane's breaker is another one now, made by this process or by another. */
  readonly changed: (lane: Lane) => void
  /** This process changed it: to be told once. */
  readonly tell: (flow: EndpointFlow) => void
  readonly rested: () => void
}

/** A change that could not be written is tried again after so long. */
const changeAgainMs = 1_000

export class Breakers {
  readonly #tools: BreakerTools
  #changing = 0
  /** Changes that wait for another try. */
  readonly #waiting = new Set<() => void>()
  #stopped = false

  constructor(tools: BreakerTools) {
    this.#tools = tools
  }

  get isQuiet(): boolean {
    return this.#changing === 0
  }

  /** What waits for another try is tried now. */
  hurry(): void {
    for (const again of [...this.#waiting]) again()
  }

  stop(): void {
    this.#stopped = true
  }

  /** An attempt has ended. What began under another state of the breaker says nothing about this one. */
  learned(lane: Lane, claim: Claim, verdict: Verdict, startedAtMs: number): void {
    const nowMs = this.#tools.clock.nowMs()
    const { breaker } = lane
    if (lane.probe === claim) {
      lane.probe = null
      const next = { up: closed, down: opened, neither: reopened }[verdict](breaker, nowMs)
      this.#change(lane, next)
      return
    }
    if (breaker.state !== 'closed' || startedAtMs < lane.breakerSinceMs) return
    if (verdict === 'up') this.#succeeded(lane)
    else if (verdict === 'down') this.#failedOnce(lane, nowMs)
  }

  /** The breaker's time is over and there is something to send: whoever is first may send one. */
  askToProbe(lane: Lane): void {
    const nowMs = this.#tools.clock.nowMs()
    if (lane.isChanging || lane.probe !== null || !mayProbe(lane.breaker, nowMs)) return
    this.#change(lane, halfOpened(lane.breaker, nowMs, lane.timeoutMs))
  }

  /** It may probe and has nothing to send: another process may have. */
  cannotProbe(lane: Lane): void {
    if (lane.probe !== 'next') return
    lane.probe = null
    this.#change(lane, unprobed(lane.breaker, this.#tools.clock.nowMs()))
  }

  /** Takes over what is stored, if it is newer. */
  adopt(lane: Lane, breaker: Breaker, isProber = false): void {
    if (breaker.epoch <= lane.breaker.epoch) return
    const hasRecovered = breaker.state === 'closed' && lane.breaker.state !== 'closed'
    lane.breaker = breaker
    lane.breakerSinceMs = this.#tools.clock.nowMs()
    lane.failures = noFailures
    lane.probe = isProber ? 'next' : null
    lane.startSlowly(hasRecovered)
    this.#tools.changed(lane)
  }

  #succeeded(lane: Lane): void {
    lane.failures = noFailures
    if (lane.slowStart !== null) lane.slowStart = afterSuccess(lane.slowStart, lane.concurrency)
  }

  #failedOnce(lane: Lane, nowMs: number): void {
    lane.failures = afterFailure(lane.failures, nowMs)
    lane.startSlowly(lane.slowStart !== null)
    if (mustOpen(lane.failures, nowMs)) this.#change(lane, opened(lane.breaker, nowMs))
  }

  #change(lane: Lane, next: Breaker): void {
    if (lane.isChanging || this.#stopped) return
    const { endpointKey } = lane
    lane.isChanging = true
    this.#changing += 1
    this.#tools.store.changeBreaker(endpointKey, next).then(
      ({ isChanged, flow }) => {
        this.#over(lane)
        this.#tools.flows.worked()
        this.adopt(lane, flow.breaker, isChanged && next.state === 'half-open')
        if (isChanged) this.#tools.tell(flow)
        // What was told while this was under way may be newer than its answer.
        this.adopt(lane, this.#tools.flow(endpointKey).breaker)
        this.#tools.rested()
      },
      (error: unknown) => {
        this.#tools.flows.failed(error)
        const again = () => {
          this.#waiting.delete(again)
          cancel()
          this.#over(lane)
          if (lane.breaker.epoch === next.epoch - 1) this.#change(lane, next)
          this.#tools.rested()
        }
        const cancel = this.#tools.clock.setTimer(again, changeAgainMs)
        this.#waiting.add(again)
      },
    )
  }

  #over(lane: Lane): void {
    lane.isChanging = false
    this.#changing -= 1
  }
}
