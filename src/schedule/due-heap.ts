/** Lanes by the time at which they need attention. Stale entries are dropped when they surface. */
/** When what is not due at all is due. */
export const never = Number.POSITIVE_INFINITY

export interface DueEntry<T> {
  readonly atMs: number
  readonly item: T
}

export class DueHeap<T> {
  readonly #entries: DueEntry<T>[] = []

  get size(): number {
    return this.#entries.length
  }

  get first(): DueEntry<T> | undefined {
    return this.#entries[0]
  }

  push(atMs: number, item: T): void {
    const entries = this.#entries
    let index = entries.length
    entries.push({ atMs, item })
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (this.#at(parent) <= atMs) break
      this.#swap(index, parent)
      index = parent
    }
  }

  pop(): DueEntry<T> | undefined {
    const entries = this.#entries
    const first = entries[0]
    const last = entries.pop()
    if (first === undefined || last === undefined || first === last) return first
    entries[0] = last
    let index = 0
    for (;;) {
      const left = 2 * index + 1
      if (left >= entries.length) return first
      const right = left + 1
      const child = right < entries.length && this.#at(right) < this.#at(left) ? right : left
      if (this.#at(child) >= last.atMs) return first
      this.#swap(index, child)
      index = child
    }
  }

  #at(index: number): number {
    return this.#entries[index]?.atMs ?? Number.POSITIVE_INFINITY
  }

  #swap(a: number, b: number): void {
    const x = this.#entries[a]
    const y = this.#entries[b]
    if (x === undefined || y === undefined) return
    this.#entries[a] = y
    this.#entries[b] = x
  }
}
