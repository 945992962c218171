/** How a command ends: its exit code, and an error as one sentence instead of a stack. */
import { WebhookError } from '../index.ts'
import { printable } from './text-width.ts'

export const exitCodes = { well: 0, failed: 1, usage: 2, interrupted: 130 } as const

/** The command was called in a way that cannot work. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** A code of the library that says the same. */
const usageCodes = /^(?:OPTION|SCHEDULE|SECRET|ADDRESS|ENDPOINT)_/

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return exitCodes.usage
  if (error instanceof WebhookError && usageCodes.test(error.code)) return exitCodes.usage
  return exitCodes.failed
}

/** @param debug adds the stack, and those of the causes */
export function describeFailure(error: unknown, debug: boolean): string {
  if (!(error instanceof Error)) return `error: ${printable(String(error))}\n`
  const code = 'code' in error && typeof error.code === 'string' ? ` [${error.code}]` : ''
  const sentence = `error: ${printable(error.message)}${code}\n`
  if (!debug) return sentence
  const causes: string[] = []
  for (let at: unknown = error; at instanceof Error; at = at.cause) causes.push(at.stack ?? '')
  return `${sentence}${causes.join('\ncaused by ')}\n`
}
