// Child processes: started here, and all of them ended when the bench ends, however it ends.

import { fork, spawn } from 'node:child_process'

const running = new Set()

/** A program that runs until `stop()`; rejects when it dies before `ready` resolves. */
export async function startProgram(command, args, { ready, options, stopSignal = 'SIGTERM' }) {
  const child = trackChild(spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options }))
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output = (output + chunk).slice(-4000)
    })
  }
  const died = new Promise((_, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`${command} ended with ${code}: ${output}`)))
  })
  died.catch(() => {})
  await Promise.race([ready(), died])
  return { pid: child.pid, stop: () => stop(child, stopSignal) }
}

/** A Node script of the bench that talks over messages. */
export function startScript(url, env = {}) {
  const child = trackChild(fork(url, { env: { ...process.env, ...env } }))
  return {
    child,
    pid: child.pid,
    ask: (message, timeoutMs) => ask(child, message, timeoutMs),
    stop: () => stop(child, 'SIGTERM'),
  }
}

/** Sends one message and resolves with the one answer; an answer `{ error }` rejects. */
function ask(child, message, timeoutMs) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => done(reject, new Error(`no answer within ${timeoutMs} ms`)),
      timeoutMs,
    )
    const onMessage = (answer) =>
      answer.error ? done(reject, new Error(answer.error)) : done(resolve, answer)
    const onExit = (code, signal) =>
      done(reject, new Error(`the child process ended early (${signal ?? code})`))
    function done(settle, value) {
      clearTimeout(timer)
      child.off('message', onMessage)
      child.off('exit', onExit)
      settle(value)
    }
    child.once('message', onMessage)
    child.once('exit', onExit)
    child.send(message)
  })
}

export function trackChild(child) {
  running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

async function stop(child, signal) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
  await ended
  clearTimeout(timer)
}

function endAll() {
  // SIGINT is PostgreSQL's fast shutdown and ends the others too.
  for (const child of running) child.kill('SIGINT')
}

process.once('exit', endAll)
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
]) {
  process.once(signal, () => process.exit(code))
}
