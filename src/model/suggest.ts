/** "Did you mean": the known word nearest to a wrong one. */
import { WebhookError } from './errors.ts'

export function unknownOption(name: string, known: readonly string[], what: string): WebhookError {
  // A wrong guess costs nothing where the word is refused anyway.
  const meant = closest(name, known, name.length < 8 ? 2 : 3)
  return new WebhookError(
    'OPTION_UNKNOWN',
    `Expected ${what}, got \`${name}\`; ${meant ? `did you mean \`${meant}\`?` : `known are ${known.map((one) => `\`${one}\``).join(', ')}.`}`,
  )
}

/** @returns the nearest word within that many edits (one for short words), or null */
export function closest(word: string, known: readonly string[], edits = 2): string | null {
  let best: string | null = null
  let bestDistance = word.length <= 4 ? 2 : edits + 1
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase(), bestDistance)
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const change = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(change, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1))
    }
    previous = row
  }
  return previous[b.length] ?? limit
}
