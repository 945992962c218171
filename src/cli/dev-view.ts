/**
 * How the demonstration is shown: on a terminal a table that is drawn again in its place, in a pipe
 * a line per attempt. Both show the same columns and end with the same statistics.
 */
import { Board, type BoardRow, boardColumns } from './board.ts'
import { type Colours, coloursFor } from './colour.ts'
import { count } from './figures.ts'
import type { Screen, TerminalOutput } from './screen.ts'
import { columnsThatFit, headerLine, rowLine } from './table.ts'
import { printable, truncate } from './text-width.ts'
import type { Words } from './words.ts'

export interface Statistics {
  /** Finished lines for a width. */
  lines(width: number, colours: Colours): readonly string[]
  readonly waiting: number
}

export interface DevView {
  /** Ordinary text, before and between. */
  print(lines: readonly string[]): void
  /** Something that needs attention; where the table is live the last one stays in sight. */
  notice(line: string): void
  attempt(row: BoardRow): void
  /** The newest figures; drawn at once where the table is live. */
  statistics(now: Statistics): void
  /** The last word: everything as it is now, then `lastLine`. */
  finish(lastLine: string): void
  /** Gives the terminal back, also after an error. */
  close(): void
}

export class PlainView implements DevView {
  readonly #output: TerminalOutput
  readonly #words: Words
  readonly #columns
  readonly #colours: Colours
  #statistics: Statistics | null = null
  #begun = false

  constructor(output: TerminalOutput & { isTTY?: boolean }, words: Words) {
    this.#output = output
    this.#words = words
    this.#colours = coloursFor(output)
    this.#columns = columnsThatFit(
      boardColumns(words, this.#colours, Date.now),
      output.columns || Number.POSITIVE_INFINITY,
    )
  }

  print(lines: readonly string[]): void {
    for (const line of lines) this.#output.write(`${printable(line)}\n`)
  }

  notice(line: string): void {
    this.print([line])
  }

  attempt(row: BoardRow): void {
    if (!this.#begun) {
      this.#begun = true
      this.#output.write(`\n${headerLine(this.#columns)}\n`)
    }
    this.#output.write(`${rowLine(this.#columns, row)}\n`)
  }

  statistics(now: Statistics): void {
    this.#statistics = now
  }

  finish(lastLine: string): void {
    const width = this.#output.columns || Number.POSITIVE_INFINITY
    const table = this.#statistics?.lines(width, this.#colours) ?? []
    this.#output.write(`\n${this.#words.statistics}\n${table.join('\n')}\n\n${lastLine}\n`)
  }

  close(): void {}
}

/** Often enough to count down in tenths, seldom enough to cost nothing. */
const frameMs = 100

export interface LiveParts {
  /** The line above the table. */
  readonly title: string
  /** In the order of their rows. */
  readonly endpointIds: readonly string[]
  readonly words: Words
  readonly colours: Colours
  /** What is typed; null when nothing can be. */
  readonly typed: (() => string) | null
}

export class LiveView implements DevView {
  readonly #screen: Screen
  readonly #words: Words
  readonly #colours: Colours
  readonly #typed: LiveParts['typed']
  readonly #board: Board
  readonly #title: string
  #statistics: Statistics | null = null
  #notice = ''
  #timer: NodeJS.Timeout | null = null

  constructor(screen: Screen, parts: LiveParts) {
    this.#screen = screen
    this.#words = parts.words
    this.#colours = parts.colours
    this.#typed = parts.typed
    this.#title = parts.title
    this.#board = new Board(parts.endpointIds)
  }

  print(lines: readonly string[]): void {
    this.#screen.printAbove(lines.map((line) => truncate(printable(line), this.#screen.width)))
    this.redraw()
  }

  notice(line: string): void {
    this.#notice = printable(line)
    this.print([line])
  }

  attempt(row: BoardRow): void {
    this.#board.put(row)
    this.redraw()
  }

  statistics(now: Statistics): void {
    this.#statistics = now
    this.redraw()
  }

  resized(): void {
    this.#screen.resized()
    this.redraw()
  }

  /** Soon, together with what else changes until then. */
  redraw(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#screen.draw(this.#frame(this.#statusLines()))
      if ((this.#statistics?.waiting ?? 0) > 0) this.redraw()
    }, frameMs)
  }

  finish(lastLine: string): void {
    this.#screen.draw(this.#frame([truncate(lastLine, this.#screen.width)]))
    this.close()
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#screen.restore()
  }

  #frame(ending: readonly string[]): string[] {
    const { width, height } = this.#screen
    const columns = columnsThatFit(boardColumns(this.#words, this.#colours, Date.now), width)
    const below = ['', ...(this.#statistics?.lines(width, this.#colours) ?? []), '', ...ending]
    const rows = this.#board.fairly(Math.max(1, height - below.length - 2))
    return [
      this.#colours.quiet(truncate(this.#title, width)),
      this.#colours.strong(headerLine(columns)),
      ...rows.map((row) => rowLine(columns, row)),
      ...below,
    ]
  }

  #statusLines(): string[] {
    const { width } = this.#screen
    const waiting = this.#statistics?.waiting ?? 0
    const status = waiting > 0 ? this.#words.waiting(count(waiting)) : this.#words.allSettled
    const standing = [status, ...(this.#notice === '' ? [] : [this.#notice])]
    const lines = standing.map((line) => truncate(line, width))
    if (this.#typed === null) return lines
    const typed = this.#typed()
    return [
      ...lines,
      this.#colours.quiet(truncate(this.#words.keys, width)),
      `> ${lastCells(typed, width - 4)}█`,
    ]
  }
}

/** The end of a line that is longer than its place. */
function lastCells(text: string, width: number): string {
  const reversed = [...text].reverse().join('')
  const cut = truncate(reversed, width)
  return [...cut].reverse().join('')
}
