/**
 * How many requests to an endpoint this process may have under way, so that all processes together
 * stay within its limit: at every moment, also while one joins or leaves. No query per request: each
 * process works out its part from the list of those that deliver.
 *
 * Two processes may see another list for a while. So a process takes less as soon as a list gives it
 * less, says so in its row once no more than that is under way (`keeps_to`), and takes more only when
 * every process of the list has said that it keeps to that list. Whoever is in no such list gets
 * nothing yet.
 */
import { createHash } from 'node:crypto'
import type { ConcurrencyShares } from '../storage.ts'

/** A process that delivers, as its row says. */
export interface Sharer {
  readonly id: number
  readonly keepsTo: string
}

interface Group {
  readonly name: string
  readonly size: number
  /** This process's place in it, from 0. */
  readonly place: number
}

export class Shares implements ConcurrencyShares {
  /** The last group that every one of its members kept to. */
  #agreed: Group | null = null
  /** The members as last seen. */
  #seen: Group | null = null
  #isAgreed = false

  /** @returns whether shares are others now */
  saw(ownId: number, sharers: readonly Sharer[]): boolean {
    const group = groupOf(ownId, sharers)
    const [wasSeen, wasAgreed] = [this.#seen?.name, this.#agreed?.name]
    this.#seen = group
    this.#isAgreed =
      group !== null && (group.size === 1 || sharers.every(({ keepsTo }) => keepsTo === group.name))
    if (this.#isAgreed) this.#agreed = group
    return wasSeen !== group?.name || wasAgreed !== this.#agreed?.name
  }

  /** This process is somebody new: what it had is another's. */
  forget(): void {
    this.#agreed = null
    this.#seen = null
    this.#isAgreed = false
  }

  /** What to say in the own row once no more than the shares is under way; null when it is said. */
  toSay(ownId: number, sharers: readonly Sharer[]): string | null {
    const said = sharers.find(({ id }) => id === ownId)?.keepsTo
    if (this.#isAgreed || this.#seen === null || said === this.#seen.name) return null
    return this.#seen.name
  }

  of(endpointKey: string, concurrency: number): number {
    if (this.#agreed === null || this.#seen === null) return 0
    if (this.#agreed === this.#seen) return partOf(this.#seen, endpointKey, concurrency)
    return Math.min(
      partOf(this.#agreed, endpointKey, concurrency),
      partOf(this.#seen, endpointKey, concurrency),
    )
  }
}

function groupOf(ownId: number, sharers: readonly Sharer[]): Group | null {
  const ids = sharers.map(({ id }) => id).sort((a, b) => a - b)
  const place = ids.indexOf(ownId)
  if (place === -1) return null
  const name = createHash('sha256').update(ids.join()).digest('base64url').slice(0, 22)
  return { name, size: ids.length, place }
}

/** What is left over after equal parts goes to others for each endpoint, not always to the same. */
function partOf({ size, place }: Group, endpointKey: string, concurrency: number): number {
  if (size === 1) return concurrency
  const turn = (place + rotation(endpointKey)) % size
  return Math.floor(concurrency / size) + (turn < concurrency % size ? 1 : 0)
}

function rotation(endpointKey: string): number {
  let sum = 0
  for (let i = 0; i < endpointKey.length; i += 1) sum = (sum * 31 + endpointKey.charCodeAt(i)) >>> 0
  return sum
}
