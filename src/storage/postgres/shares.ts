/**
 * How many requests to an endpoint this process may have under way, so that all processes together
 * stay within its limit: at every moment, also while one joins or leaves. No query per request: each
 * process works out its part from the list of those that deliver.
 *
 * Two processes may see another list for a while. So a process takes less as soon as a list gives it
 * less, says so in its row once no more than that is under way (`keeps_to`), and takes more only when
 * every process of the list has said that it keeps to that list. What it has said binds it until then:
 * others may have taken it at its word, and one of them may have died since. Whoever is in no such list
 * gets nothing yet.
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
  /** What this process may have said that it keeps to since the last that all kept to. */
  #said: Group[] = []
  #isAgreed = false

  /** @returns whether shares are others now */
  saw(ownId: number, sharers: readonly Sharer[]): boolean {
    const group = groupOf(ownId, sharers)
    const [wasSeen, wasAgreed] = [this.#seen?.name, this.#agreed?.name]
    this.#seen = group
    this.#isAgreed =
      group !== null && (group.size === 1 || sharers.every(({ keepsTo }) => keepsTo === group.name))
    if (this.#isAgreed) {
      this.#agreed = group
      this.#said = []
    }
    return wasSeen !== group?.name || wasAgreed !== this.#agreed?.name
  }

  /** This process is somebody new: what it had is another's. */
  forget(): void {
    this.#agreed = null
    this.#seen = null
    this.#said = []
    this.#isAgreed = false
  }

  /** What to say in the own row once no more than the shares is under way; null when it is said. */
  toSay(ownId: number, sharers: readonly Sharer[]): string | null {
    const said = sharers.find(({ id }) => id === ownId)?.keepsTo
    const seen = this.#seen
    if (this.#isAgreed || seen === null || said === seen.name) return null
    if (!this.#said.some(({ name }) => name === seen.name)) this.#said.push(seen)
    return seen.name
  }

  of(endpointKey: string, concurrency: number): number {
    if (this.#agreed === null || this.#seen === null) return 0
    let part = partOf(this.#agreed, endpointKey, concurrency)
    if (this.#agreed === this.#seen) return part
    for (const group of [this.#seen, ...this.#said]) {
      part = Math.min(part, partOf(group, endpointKey, concurrency))
    }
    return part
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
