/**
 * Values on their way to PostgreSQL. A commit carries columns as arrays, each written as one text:
 * handed over as JavaScript arrays they would cost `pg` a tenth of all CPU.
 *
 * A PostgreSQL text holds no NUL, and JavaScript's does. So NUL travels as two characters, and comes
 * back as it was; of all other texts only those with the mark itself look different in the database.
 */
const mark = '\uFDD0'
const marked = /[\0\uFDD0]/g
const markedBack = /\uFDD0([0\uFDD0])/g

export function toText(value: string): string {
  return value.replace(marked, (found) => mark + (found === mark ? mark : '0'))
}

export function fromText(value: string): string {
  if (!value.includes(mark)) return value
  return value.replace(markedBack, (_, found: string) => (found === mark ? mark : '\0'))
}

/**
 * Arrays as rows, for `from`: `{ id: '$1::text[]' }` is a column `id`. Functions in the select list run
 * side by side; `from unnest($1, $2)` would first make a table of each column.
 */
export function rowsOf(columns: Readonly<Record<string, string>>): string {
  const each = Object.entries(columns).map(([name, array]) => `unnest(${array}) as ${name}`)
  return `(select ${each.join(', ')})`
}

/** For `$n::text[]`. */
export function textArray(values: readonly (string | null)[]): string {
  let text = '{'
  // Most columns say the same again and again.
  let last: string | null = null
  let quoted = 'NULL'
  for (const value of values) {
    if (value !== last) {
      last = value
      quoted = value === null ? 'NULL' : quote(value)
    }
    text += text.length > 1 ? `,${quoted}` : quoted
  }
  return `${text}}`
}

const special = /["\\\0\uFDD0]/

function quote(value: string): string {
  return special.test(value) ? `"${toText(value).replace(/["\\]/g, '\\$&')}"` : `"${value}"`
}

/** For `$n::json[]`: JSON has a way of its own to write NUL. */
export function jsonArray(values: readonly (string | null)[]): string {
  const texts = values.map((value) =>
    value === null ? 'NULL' : `"${value.replace(/["\\]/g, '\\$&')}"`,
  )
  return `{${texts.join(',')}}`
}

/** For `$n::bytea[]`. */
export function bytesArray(values: readonly (Uint8Array | null)[]): string {
  const texts = values.map((value) =>
    value === null ? 'NULL' : `"\\\\x${Buffer.from(value).toString('hex')}"`,
  )
  return `{${texts.join(',')}}`
}

/** For `$n::int[]`, `::bigint[]`, `::float8[]`. Times are whole milliseconds there. */
export function numberArray(values: readonly (number | null)[]): string {
  return `{${values.map((value) => value ?? 'NULL').join(',')}}`
}

export function booleanArray(values: readonly boolean[]): string {
  return `{${values.map((value) => (value ? 't' : 'f')).join(',')}}`
}

/** Many pieces of bytes as one parameter; each is read back as `substr($n, at, length)`. */
export class ByteColumn {
  readonly #pieces: Uint8Array[] = []
  #length = 0

  /** @returns where the piece begins, counted from 1 */
  add(piece: Uint8Array): number {
    const at = this.#length + 1
    this.#pieces.push(piece)
    this.#length += piece.length
    return at
  }

  joined(): Buffer {
    return Buffer.concat(this.#pieces, this.#length)
  }
}
