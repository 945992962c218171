/** Values of the command line: read, checked, and refused with what was expected. */
import { InvalidArgumentError } from 'commander'

export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= min && value <= max) return value
    throw new InvalidArgumentError(`Expected an integer from ${min} to ${max}.`)
  }
}

export function speedFactor(text: string): number {
  const value = Number(text)
  if (/^\d+(?:\.\d+)?$/.test(text) && value >= 1 && value <= 1_000_000) return value
  throw new InvalidArgumentError('Expected a number from 1 to 1000000.')
}

/** Ends within a minute: somebody is waiting in front of the screen. */
const fastScheduleMs: readonly number[] = [500, 1_000, 2_000, 5_000, 10_000, 30_000]

export function schedule(text: string): readonly number[] | 'standard' {
  if (text === 'standard') return 'standard'
  if (text === 'fast') return fastScheduleMs
  const delaysMs = text.split(',').map((part) => (/^\d+$/.test(part.trim()) ? Number(part) : NaN))
  if (delaysMs.every((delayMs) => delayMs <= 31_536_000_000)) return delaysMs
  throw new InvalidArgumentError(
    'Expected standard, fast, or delays in ms such as 1000,5000,60000 (each up to a year).',
  )
}

/** For an option that may be given several times, or once with commas. */
export function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, ...text.split(',').map((part) => part.trim())]
}
