/** Log lines: an injected logger, or JSON lines of warnings and errors on standard error. */

/** The shape of `console`, pino and most others. */
export interface Logger {
  debug(fields: Record<string, unknown>, message: string): void
  info(fields: Record<string, unknown>, message: string): void
  warn(fields: Record<string, unknown>, message: string): void
  error(fields: Record<string, unknown>, message: string): void
}

export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} }

/** Warnings and errors only: a library that talks about every attempt is a nuisance. */
export function defaultLogger(write: (line: string) => void = writeToStderr): Logger {
  const line =
    (level: 'warn' | 'error') =>
    (fields: Record<string, unknown>, message: string): void =>
      write(
        `${JSON.stringify({ level, time: new Date().toISOString(), name: '@k-msg/webhook', message, ...fields })}\n`,
      )
  return { debug() {}, info() {}, warn: line('warn'), error: line('error') }
}

/** The same logger, but one that throws hurts nobody: a full log disk must not stop a delivery. */
export function tolerant(logger: Logger): Logger {
  const attempt =
    (level: keyof Logger) =>
    (fields: Record<string, unknown>, message: string): void => {
      try {
        logger[level](fields, message)
      } catch {
        // There is nowhere left to say it.
      }
    }
  return {
    debug: attempt('debug'),
    info: attempt('info'),
    warn: attempt('warn'),
    error: attempt('error'),
  }
}

function writeToStderr(line: string): void {
  process.stderr.write(line)
}

/** An endpoint's url without what often carries tokens. */
export function loggableUrl(url: string): string {
  const { origin, pathname, search } = new URL(url)
  return `${origin}${pathname}${search === '' ? '' : '?…'}`
}
