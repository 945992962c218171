/** First in, first out, without moving the rest: `Array.shift` is linear in long queues. */
export class Queue<T> {
  #items: (T | undefined)[] = []
  #head = 0

  get length(): number {
    return this.#items.length - this.#head
  }

  get first(): T | undefined {
    return this.#items[this.#head]
  }

  push(item: T): void {
    this.#items.push(item)
  }

  shift(): T | undefined {
    if (this.#head === this.#items.length) return undefined
    const item = this.#items[this.#head]
    this.#items[this.#head] = undefined
    this.#head += 1
    if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item
  }

  /** Takes the first that fits out of its middle: linear, for what is seldom done. */
  remove(fits: (item: T) => boolean): T | undefined {
    const at = this.#items.findIndex((item, i) => i >= this.#head && fits(item as T))
    return at === -1 ? undefined : this.#items.splice(at, 1)[0]
  }

  /** Empties it. */
  takeAll(): T[] {
    const all = this.#items.slice(this.#head) as T[]
    this.#items = []
    this.#head = 0
    return all
  }
}
