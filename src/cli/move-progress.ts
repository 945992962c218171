/** Progress of `migrate`: one line that changes on a terminal, a line now and then in a pipe. */
import { count } from './figures.ts'
import type { TerminalOutput } from './screen.ts'
import { truncate } from './text-width.ts'
import type { Words } from './words.ts'

const frameMs = 100
/** Lines come seldomer the longer it takes, so that a log of hours stays readable. */
const lineMs = { first: 2_000, growth: 1.25, longest: 60_000 } as const

export class MoveProgress {
  readonly #output: TerminalOutput & { isTTY?: boolean }
  readonly #words: Words['migrate']
  readonly #live: boolean
  readonly #written = new Map<string, number>()
  #total = 0
  #shownAtMs = 0
  #pauseMs: number
  #isDrawn = false

  constructor(output: TerminalOutput & { isTTY?: boolean }, words: Words['migrate']) {
    this.#output = output
    this.#words = words
    this.#live = output.isTTY === true && process.env.TERM !== 'dumb'
    this.#pauseMs = this.#live ? frameMs : lineMs.first
  }

  /** @param rows there are to write */
  begins(rows: number): void {
    this.#total = rows
    this.#written.clear()
    this.#shownAtMs = performance.now()
  }

  /** @param rows of this table so far */
  wrote(table: string, rows: number): void {
    this.#written.set(table, rows)
    const nowMs = performance.now()
    if (nowMs - this.#shownAtMs < this.#pauseMs) return
    this.#shownAtMs = nowMs
    const written = [...this.#written.values()].reduce((sum, one) => sum + one, 0)
    const line = `${table}  ${this.#words.progress(count(written), count(this.#total))}`
    if (this.#live) {
      this.#output.write(`\r${truncate(line, (this.#output.columns || 80) - 1)}\x1b[K`)
      this.#isDrawn = true
    } else {
      this.#output.write(`${line}\n`)
      this.#pauseMs = Math.min(this.#pauseMs * lineMs.growth, lineMs.longest)
    }
  }

  /** Takes the changing line away; the second call does nothing. */
  end(): void {
    if (this.#isDrawn) this.#output.write('\r\x1b[K')
    this.#isDrawn = false
  }
}
