/**
 * Newline-delimited JSON, read as a stream: memory stays bounded by one line, whatever arrives. A
 * bad line is a value, not an exception, so that the lines after it are still read.
 */

export type Line =
  | { readonly number: number; readonly text: string; readonly value: Record<string, unknown> }
  | { readonly number: number; readonly problem: string }

/** A body may have 256 KiB; written with escapes (`\uac00`) in JSON it may take six times that. */
const maxLineBytes = 2 * 1_048_576
const newline = 0x0a

/** Blank lines are counted and left out. Lines end in LF or CRLF; the last one need not end. */
export async function* readNdjson(input: AsyncIterable<Uint8Array | string>): AsyncGenerator<Line> {
  let number = 0
  let parts: Buffer[] = []
  let bytes = 0
  const take = (end: Buffer): Line | null => {
    number += 1
    const tooLong = bytes + end.length > maxLineBytes
    const whole = parts.length === 0 ? end : Buffer.concat([...parts, end])
    parts = []
    bytes = 0
    return tooLong ? { number, problem: tooLongProblem } : parseLine(whole, number)
  }
  for await (const chunk of input) {
    const data = Buffer.from(chunk)
    let start = 0
    for (let end = data.indexOf(newline); end !== -1; end = data.indexOf(newline, start)) {
      const line = take(data.subarray(start, end))
      if (line !== null) yield line
      start = end + 1
    }
    bytes += data.length - start
    // Of a line that is too long already only its length is kept.
    if (bytes <= maxLineBytes) parts.push(data.subarray(start))
    else parts = []
  }
  if (bytes > 0) {
    const line = take(Buffer.alloc(0))
    if (line !== null) yield line
  }
}

const tooLongProblem = `Expected a line of at most ${maxLineBytes} bytes, got a longer one.`
const strict = new TextDecoder('utf-8', { fatal: true })

/** @returns null for a blank line */
export function parseLine(bytes: Uint8Array, number: number): Line | null {
  let text: string
  try {
    // The decoder drops a byte order mark.
    text = strict.decode(bytes).trim()
  } catch {
    return { number, problem: 'Expected UTF-8 text, got bytes that are not.' }
  }
  if (text === '') return null
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return { number, problem: notJson(text, error) }
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return { number, text, value: value as Record<string, unknown> }
  }
  const got = Array.isArray(value) ? `an array of ${value.length}` : JSON.stringify(value)
  return { number, problem: `Expected one event (a JSON object), got ${got}.` }
}

function notJson(text: string, error: unknown): string {
  if (partOfPrettyPrint.test(text)) {
    return 'Expected one whole event per line, got a part of JSON spread over several lines; `jq -c .` puts each event on one.'
  }
  return `Expected one event as JSON, got text that is not: ${error instanceof Error ? error.message : String(error)}`
}

/** A lone bracket, or a lone `"name": value,`: someone's pretty-printed file. */
const partOfPrettyPrint = /^(?:[[\]{}],?|"[^"]*":.*)$/
