/**
 * How many requests to an endpoint this process may have under way, so that all processes together
 * stay within its limit: at every moment, also while one joins, leaves or dies. No query per request:
 * each process works out its part from the list of those that deliver.
 *
 * Each says in its row which part it keeps to (`keeps_to`), once no more than that is under way, and
 * reads it back before it takes more. So it may have its own part, less where the list that it sees
 * now gives it less, and less where the parts that the others have said leave less. Whoever was last
 * to say something has seen what all others said before: so the sum is never more than the limit. One
 * that has died takes no more than what it said until its lease is over.
 */
import { createHash } from 'node:crypto'
import type { ConcurrencyShares } from '../flows.ts'

/** A process that delivers, as its row says. */
export interface Sharer {
  readonly id: number
  readonly keepsTo: string
}

/** One of so many equal parts. */
interface Part {
  readonly size: number
  /** From 0. */
  readonly place: number
}

interface Group extends Part {
  readonly name: string
}

export class Shares implements ConcurrencyShares {
  /** The part of this process among the members as last seen. */
  #seen: Group | null = null
  /** What it has said, as read back. */
  #own: Part | null = null
  /** What the others have said. */
  #others: readonly Part[] = []
  /** Everybody keeps to the members as last seen. */
  #isSettled = false
  #rows = ''

  /** @returns whether shares are others now */
  saw(ownId: number, sharers: readonly Sharer[]): boolean {
    const group = groupOf(ownId, sharers)
    this.#seen = group
    this.#own = partFrom(sharers.find(({ id }) => id === ownId)?.keepsTo)
    this.#others = sharers.flatMap(({ id, keepsTo }) =>
      id === ownId ? [] : (partFrom(keepsTo) ?? []),
    )
    this.#isSettled =
      group !== null && sharers.every(({ keepsTo }) => keepsTo.endsWith(` ${group.name}`))
    const rows = sharers.map(({ id, keepsTo }) => `${id} ${keepsTo}`).join()
    const isOther = rows !== this.#rows
    this.#rows = rows
    return isOther
  }

  /** This process is somebody new: what it had is another's. */
  forget(): void {
    this.#seen = null
    this.#own = null
    this.#others = []
    this.#isSettled = false
    this.#rows = ''
  }

  /** What to say in the own row once no more than the shares is under way; null when it is said. */
  toSay(ownId: number, sharers: readonly Sharer[]): string | null {
    if (this.#seen === null) return null
    const { size, place, name } = this.#seen
    const text = `${place} ${size} ${name}`
    return sharers.find(({ id }) => id === ownId)?.keepsTo === text ? null : text
  }

  of(endpointKey: string, concurrency: number): number {
    if (this.#seen === null || this.#own === null) return 0
    const part = partOf(this.#seen, endpointKey, concurrency)
    if (this.#isSettled) return part
    let left = concurrency
    for (const other of this.#others) left -= partOf(other, endpointKey, concurrency)
    return Math.max(0, Math.min(part, partOf(this.#own, endpointKey, concurrency), left))
  }
}

function partFrom(keepsTo: string | undefined): Part | null {
  if (!keepsTo) return null
  const [place = 0, size = 1] = keepsTo.split(' ').map(Number)
  return { place, size }
}

function groupOf(ownId: number, sharers: readonly Sharer[]): Group | null {
  const ids = sharers.map(({ id }) => id).sort((a, b) => a - b)
  const place = ids.indexOf(ownId)
  if (place === -1) return null
  const name = createHash('sha256').update(ids.join()).digest('base64url').slice(0, 22)
  return { name, size: ids.length, place }
}

/** What is left over after equal parts goes to others for each endpoint, not always to the same. */
function partOf({ size, place }: Part, endpointKey: string, concurrency: number): number {
  if (size === 1) return concurrency
  const turn = (place + rotation(endpointKey)) % size
  return Math.floor(concurrency / size) + (turn < concurrency % size ? 1 : 0)
}

function rotation(endpointKey: string): number {
  let sum = 0
  for (let i = 0; i < endpointKey.length; i += 1) sum = (sum * 31 + endpointKey.charCodeAt(i)) >>> 0
  return sum
}
