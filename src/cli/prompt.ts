/** One line of typing below the live table. The terminal's own echo would end up inside the table. */
import { printable } from './text-width.ts'

export interface PromptEvents {
  changed(): void
  /** Enter was pressed; the text may be empty. */
  line(text: string): void
  interrupt(): void
}

/** What it needs of `process.stdin`. */
export interface TerminalInput {
  setRawMode(raw: boolean): unknown
  setEncoding(encoding: 'utf8'): unknown
  on(name: 'data', listener: (keys: string) => void): unknown
  off(name: 'data', listener: (keys: string) => void): unknown
  resume(): unknown
  pause(): unknown
}

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })
/** Cursor and function keys, which mean nothing here. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: such keys begin with one
const escapeSequence = /^\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.|.)?/

export class Prompt {
  readonly #input: TerminalInput
  readonly #events: PromptEvents
  #text = ''

  constructor(input: TerminalInput, events: PromptEvents) {
    this.#input = input
    this.#events = events
  }

  get text(): string {
    return this.#text
  }

  open(): void {
    this.#input.setRawMode(true)
    this.#input.setEncoding('utf8')
    this.#input.on('data', this.#typed)
    this.#input.resume()
  }

  /** May be called again, and without having been opened. */
  close(): void {
    this.#input.off('data', this.#typed)
    this.#input.setRawMode(false)
    this.#input.pause()
  }

  readonly #typed = (keys: string): void => {
    let rest = keys
    while (rest !== '') {
      const [sequence] = escapeSequence.exec(rest) ?? []
      const [character = ''] = rest
      if (sequence === undefined) this.#press(character)
      rest = rest.slice((sequence ?? character).length)
    }
    this.#events.changed()
  }

  #press(key: string): void {
    switch (key) {
      case '\x03': // Ctrl-C: raw mode makes it a key
        this.#events.interrupt()
        break
      case '\x04': // Ctrl-D
        if (this.#text === '') this.#events.interrupt()
        break
      case '\r':
      case '\n': {
        const line = this.#text
        this.#text = ''
        this.#events.line(line)
        break
      }
      case '\x7f':
      case '\b':
        this.#text = withoutLast(this.#text)
        break
      case '\x15': // Ctrl-U
        this.#text = ''
        break
      default:
        if (printable(key) === key) this.#text += key
    }
  }
}

function withoutLast(text: string): string {
  return [...graphemes.segment(text)]
    .slice(0, -1)
    .map(({ segment }) => segment)
    .join('')
}
