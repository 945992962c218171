/**
 * A block of lines at the bottom of a terminal that is drawn again in its place. It stays on the
 * screen when it ends, as the last word. Never taller than the terminal, never wider: a line that
 * wraps would make the next drawing land in the wrong place.
 */

/** What it needs of `process.stdout`. */
export interface TerminalOutput {
  readonly columns?: number
  readonly rows?: number
  write(text: string): unknown
}

const hideCursor = '\x1b[?25l'
const showCursor = '\x1b[?25h'
/** Terminals that know it show the frame at once; others ignore it. */
const beginFrame = '\x1b[?2026h'
const endFrame = '\x1b[?2026l'
const clearBelow = '\x1b[J'
const clearRestOfLine = '\x1b[K'

export class Screen {
  readonly #output: TerminalOutput
  #drawn = 0

  constructor(output: TerminalOutput) {
    this.#output = output
  }

  get width(): number {
    return this.#output.columns || 80
  }

  /** One line is left for the cursor. */
  get height(): number {
    return Math.max(4, (this.#output.rows || 24) - 1)
  }

  draw(lines: readonly string[]): void {
    const shown = lines.slice(-this.height)
    const frame = shown.map((line) => `${line}${clearRestOfLine}\n`).join('')
    this.#output.write(`${hideCursor}${beginFrame}${this.#home()}${frame}${clearBelow}${endFrame}`)
    this.#drawn = shown.length
  }

  /** Puts lines above the block, where they scroll away as usual. */
  printAbove(lines: readonly string[]): void {
    const text = lines.map((line) => `${line}${clearRestOfLine}\n`).join('')
    this.#output.write(`${this.#home()}${text}${clearBelow}`)
    this.#drawn = 0
  }

  /** After a change of size nobody knows where the lines are: starts on an empty screen. */
  resized(): void {
    this.#output.write('\x1b[2J\x1b[H')
    this.#drawn = 0
  }

  restore(): void {
    this.#output.write(showCursor)
  }

  #home(): string {
    return this.#drawn === 0 ? '\r' : `\x1b[${this.#drawn}A\r`
  }
}
