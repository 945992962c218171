/**
 * Judges the `data` of an event by an endpoint's body filter. Pure. It fails closed, with three
 * values: what cannot be compared (a place that is not there, a text with a number) is neither true
 * nor false, and `not` leaves it so. Only what is true matches.
 */
import type { BodyFilter, BodyTest, FilterPath } from '../model/body-filter.ts'
import { describeValue, WebhookError } from '../model/errors.ts'
import { refuseUnknown } from '../model/given.ts'

/** Null: it cannot be said. */
type Truth = boolean | null
type Judge = (data: unknown) => Truth

const missing = Symbol('missing')
const tests = ['eq', 'in', 'gt', 'lt', 'exists', 'prefix'] as const
const words = ['path', ...tests, 'and', 'or', 'not'] as const

const maxDepth = 5
const maxNodes = 50
const maxBytes = 4_096
const maxPathNames = 16

/** Filters are compiled once: an endpoint keeps the same object until it is changed. */
const compiled = new WeakMap<BodyFilter, Judge>()

export function matchesBody(filter: BodyFilter, data: unknown): boolean {
  let judge = compiled.get(filter)
  if (judge === undefined) {
    judge = compile(filter)
    compiled.set(filter, judge)
  }
  return judge(data) === true
}

/** @returns the first part that is not true: the path of a test, `or` or `not`; null: it matches */
export function whyBodyFiltered(filter: BodyFilter, data: unknown): string | null {
  if (compile(filter)(data) === true) return null
  if ('and' in filter) {
    for (const part of filter.and) {
      const why = whyBodyFiltered(part, data)
      if (why !== null) return why
    }
  }
  if ('path' in filter) return namesOf(filter.path).join('.')
  return 'or' in filter ? 'or' : 'not'
}

function compile(filter: BodyFilter): Judge {
  if ('and' in filter) return all(filter.and.map(compile))
  if ('or' in filter) return any(filter.or.map(compile))
  if ('not' in filter) {
    const inner = compile(filter.not)
    return (data) => {
      const truth = inner(data)
      return truth === null ? null : !truth
    }
  }
  const names = namesOf(filter.path)
  const test = compileTest(filter)
  return (data) => test(valueAt(data, names))
}

function all(parts: readonly Judge[]): Judge {
  return (data) => {
    let truth: Truth = true
    for (const part of parts) {
      const one = part(data)
      if (one === false) return false
      if (one === null) truth = null
    }
    return truth
  }
}

function any(parts: readonly Judge[]): Judge {
  return (data) => {
    let truth: Truth = false
    for (const part of parts) {
      const one = part(data)
      if (one === true) return true
      if (one === null) truth = null
    }
    return truth
  }
}

function compileTest(test: BodyTest): Judge {
  if ('exists' in test) return (value) => (value !== missing) === test.exists
  if ('eq' in test) return known((value) => value === test.eq)
  if ('in' in test) {
    const wanted = new Set<unknown>(test.in)
    return known((value) => wanted.has(value))
  }
  if ('prefix' in test) {
    return known((value) => (typeof value === 'string' ? value.startsWith(test.prefix) : null))
  }
  const [bound, sign] = 'gt' in test ? [test.gt, 1] : [test.lt, -1]
  return known((value) => {
    // Texts by their code units: enough for RFC 3339 times of one offset.
    if (typeof value !== typeof bound) return null
    const order = (value as string) > (bound as string) ? 1 : value === bound ? 0 : -1
    return order === sign
  })
}

function known(judge: Judge): Judge {
  return (value) => (value === missing ? null : judge(value))
}

/** Only what is there itself: nothing of a prototype, no length of a text. */
function valueAt(data: unknown, names: readonly string[]): unknown {
  let value = data
  for (const name of names) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return missing
    if (Array.isArray(value) && name === 'length') return missing
    value = (value as Record<string, unknown>)[name]
  }
  return value
}

function namesOf(path: FilterPath): readonly string[] {
  return typeof path === 'string' ? path.split('.') : path
}

// ── the door ─────────────────────────────────────────────────────────────────────────────────────

/** @throws WebhookError ENDPOINT_INVALID, OPTION_UNKNOWN */
export function checkBodyFilter(filter: unknown): asserts filter is BodyFilter {
  let json: string | undefined
  try {
    json = JSON.stringify(filter)
  } catch {
    throw invalid('`bodyFilter`', 'to be what JSON can carry', filter)
  }
  if (json !== undefined && new TextEncoder().encode(json).length > maxBytes) {
    throw invalid('`bodyFilter`', `to be at most ${maxBytes} bytes of JSON`, filter)
  }
  const left = { nodes: maxNodes }
  checkNode(filter, 'bodyFilter', 1, left)
}

function checkNode(node: unknown, where: string, depth: number, left: { nodes: number }): void {
  left.nodes -= 1
  if (depth > maxDepth || left.nodes < 0) {
    throw invalid(
      `\`${where}\``,
      `to be at most ${maxDepth} deep and ${maxNodes} parts in all`,
      node,
    )
  }
  if (typeof node !== 'object' || node === null || Array.isArray(node)) {
    throw invalid(`\`${where}\``, "to be an object such as { path: 'amount', gt: 1000 }", node)
  }
  const fields = node as Record<string, unknown>
  refuseUnknown(fields, words, 'a word of a body filter')
  const names = Object.keys(fields).filter((name) => name !== 'path')
  const [word] = names
  const isTest = (tests as readonly string[]).includes(word ?? '')
  if (word === undefined || names.length > 1 || isTest !== 'path' in fields) {
    throw invalid(
      `\`${where}\``,
      `to be one of and, or, not, or a \`path\` with one of ${tests.join(', ')}`,
      node,
    )
  }
  if (isTest) checkTest(fields, word, where)
  else if (word === 'not') checkNode(fields.not, `${where}.not`, depth + 1, left)
  else {
    const parts = fields[word]
    if (!Array.isArray(parts) || parts.length === 0) {
      throw invalid(`\`${where}.${word}\``, 'to be a list of filters, not empty', parts)
    }
    for (const [i, part] of parts.entries()) {
      checkNode(part, `${where}.${word}[${i}]`, depth + 1, left)
    }
  }
}

function checkTest(fields: Record<string, unknown>, word: string, where: string): void {
  checkPath(fields.path, `${where}.path`)
  const value = fields[word]
  const [isValid, expected] = testRules[word as (typeof tests)[number]](value)
  if (!isValid) throw invalid(`\`${where}.${word}\``, expected, value)
}

const testRules: Record<(typeof tests)[number], (value: unknown) => [boolean, string]> = {
  eq: (value) => [isScalar(value), 'to be a text, a number, true, false or null'],
  in: (value) => [
    Array.isArray(value) && value.length > 0 && value.every(isScalar),
    'to be a list of texts, numbers, true, false or null, not empty',
  ],
  gt: (value) => [isOrdered(value), 'to be a number or a text'],
  lt: (value) => [isOrdered(value), 'to be a number or a text'],
  exists: (value) => [typeof value === 'boolean', 'to be true or false'],
  prefix: (value) => [typeof value === 'string', 'to be a text'],
}

function checkPath(path: unknown, where: string): void {
  const names: readonly unknown[] | null =
    typeof path === 'string' ? path.split('.') : Array.isArray(path) ? path : null
  const valid =
    names !== null &&
    names.length > 0 &&
    names.length <= maxPathNames &&
    names.every((name) => typeof name === 'string' && name !== '')
  if (valid) return
  throw invalid(
    `\`${where}\``,
    `to be up to ${maxPathNames} names such as 'order.amount' or ['order', 'a.b']`,
    path,
  )
}

function isScalar(value: unknown): boolean {
  return value === null || typeof value === 'boolean' || isOrdered(value)
}

function isOrdered(value: unknown): boolean {
  return typeof value === 'string' || Number.isFinite(value)
}

function invalid(what: string, expected: string, got: unknown): WebhookError {
  return new WebhookError(
    'ENDPOINT_INVALID',
    `Expected ${what} ${expected}, got ${describeValue(got)}.`,
  )
}
