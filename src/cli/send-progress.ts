/**
 * Progress of `send`: a bar on a terminal, a line every few seconds in a pipe. Writes to standard
 * error, so that standard output holds the summary only.
 */
import { count, duration } from './figures.ts'
import type { TerminalOutput } from './screen.ts'
import { rate } from './send-summary.ts'
import type { SendTally } from './send-tally.ts'
import { displayWidth, printable, truncate } from './text-width.ts'
import type { Words } from './words.ts'

const bar = { most: 24, least: 8 } as const
const frameMs = 100
/** Lines come seldomer the longer it takes, so that a log of hours stays readable. */
const lineMs = { first: 2_000, growth: 1.25, longest: 60_000 } as const
/** A file of the wrong kind must not scroll everything else away. */
const badLinesShown = 20

export class SendProgress {
  readonly #output: TerminalOutput & { isTTY?: boolean }
  readonly #bytes: { readonly total: number; readonly read: number } | null
  readonly #words: Words
  readonly #live: boolean
  #tally: SendTally | null = null
  #timer: NodeJS.Timeout | null = null
  #badLines = 0

  /** @param bytes of the input; null when its length is not known */
  constructor(
    output: TerminalOutput & { isTTY?: boolean },
    bytes: { readonly total: number; readonly read: number } | null,
    words: Words,
  ) {
    this.#output = output
    this.#words = words
    this.#bytes = bytes
    this.#live = output.isTTY === true && process.env.TERM !== 'dumb'
  }

  start(tally: SendTally): void {
    this.#tally = tally
    this.#showEvery(this.#live ? frameMs : lineMs.first)
  }

  #showEvery(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#show()
      this.#showEvery(this.#live ? ms : Math.min(ms * lineMs.growth, lineMs.longest))
    }, ms)
  }

  /** Shows the last state once; the second call does nothing. */
  stop(): void {
    if (this.#timer === null) return
    clearTimeout(this.#timer)
    this.#timer = null
    this.#show()
    if (this.#live) this.#output.write('\n')
  }

  print(line: string): void {
    this.#output.write(`${this.#live ? '\r\x1b[K' : ''}${printable(line)}\n`)
    if (this.#live && this.#timer !== null) this.#show()
  }

  badLine(number: number, problem: string): void {
    this.#badLines += 1
    const { send: words } = this.#words
    if (this.#badLines <= badLinesShown) this.print(`${words.line(number)}: ${problem}`)
    if (this.#badLines === badLinesShown) this.print(words.onlyCounted)
  }

  #show(): void {
    const tally = this.#tally
    if (tally === null) return
    const { sum, send } = this.#words
    const figure = (label: string, value: number) => send.figure(label, count(value))
    const figures = [
      figure(sum.accepted, tally.acceptedEvents),
      ...(tally.duplicates > 0 ? [figure(sum.duplicates, tally.duplicates)] : []),
      figure(sum.delivered, tally.delivered),
      ...(tally.failed > 0 ? [figure(sum.failed, tally.failed)] : []),
      figure(sum.waiting, tally.waiting),
      rate(tally.deliveredPerSecond),
    ].join(' · ')
    const share = this.#share(tally)
    if (this.#live) {
      const width = (this.#output.columns || 80) - 1
      const line = share === null ? figures : `${percentOf(share)}  ${figures}`
      const room = Math.min(bar.most, width - displayWidth(line) - 3)
      const drawn = share === null || room < bar.least ? '' : `${drawBar(share, room)} `
      this.#output.write(`\r${truncate(drawn + line, width)}\x1b[K`)
    } else {
      const percent = share === null ? '' : `${percentOf(share)}  `
      this.#output.write(`${duration(tally.elapsedMs)}  ${percent}${figures}\n`)
    }
  }

  /** Of all the events the input probably holds; exact once it is read. */
  #share(tally: SendTally): number | null {
    if (this.#bytes === null) return null
    const { total, read } = this.#bytes
    if (total === 0) return 1
    const seen = tally.acceptedEvents + tally.duplicates + tally.badLines
    if (seen === 0) return 0
    const done = Math.max(0, seen - tally.waiting)
    return (read / total) * (done / seen)
  }
}

function percentOf(share: number): string {
  return `${String(Math.floor(share * 100)).padStart(3)} %`
}

function drawBar(share: number, cells: number): string {
  const filled = Math.round(share * cells)
  return `[${'█'.repeat(filled)}${'░'.repeat(cells - filled)}]`
}
