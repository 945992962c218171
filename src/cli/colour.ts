/** Colours, where they are wanted: never in a pipe, never with NO_COLOR (https://no-color.org). */

export interface Colours {
  good(text: string): string
  bad(text: string): string
  pending(text: string): string
  quiet(text: string): string
  strong(text: string): string
}

const same = (text: string): string => text
const code =
  (start: number, end: number) =>
  (text: string): string =>
    `\x1b[${start}m${text}\x1b[${end}m`

const plain: Colours = { good: same, bad: same, pending: same, quiet: same, strong: same }
const ansi: Colours = {
  good: code(32, 39),
  bad: code(31, 39),
  pending: code(33, 39),
  quiet: code(2, 22),
  strong: code(1, 22),
}

export function coloursFor(stream: { isTTY?: boolean | undefined }): Colours {
  const { NO_COLOR, TERM } = process.env
  return stream.isTTY === true && !NO_COLOR && TERM !== 'dumb' ? ansi : plain
}
