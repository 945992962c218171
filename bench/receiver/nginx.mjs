// The receiver of the throughput runs: nginx answers 200 and throws the body away.
// One worker process: it takes far more than any contender sends, and leaves the rest of the
// machine to them.

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startProgram } from '../machine/child.mjs'
import { freePorts } from '../machine/ports.mjs'

export function nginxIsInstalled() {
  try {
    execFileSync('nginx', ['-v'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** Listens on `count` ports, so that `count` endpoints are `count` distinct origins. */
export async function startNginx(directory, count) {
  mkdirSync(directory, { recursive: true })
  const [statusPort, ...ports] = await freePorts(count + 1)
  const file = join(directory, 'nginx.conf')
  writeFileSync(file, configuration(directory, statusPort, ports))
  const server = await startProgram('nginx', ['-c', file, '-p', directory, '-e', 'stderr'], {
    ready: () => until(() => requestsSeen(statusPort)),
  })
  let statusReads = 0
  const base = (await requestsSeen(statusPort)) - 1
  return {
    name: 'nginx',
    pid: server.pid,
    urls: ports.map((port) => `http://127.0.0.1:${port}/hook`),
    /** Requests taken since start, by nginx's own counter, which counts its readers too. */
    async received() {
      statusReads++
      return (await requestsSeen(statusPort)) - base - 1 - statusReads
    },
    stop: server.stop,
  }
}

function configuration(directory, statusPort, ports) {
  return `
daemon off;
worker_processes 1;
pid ${directory}/nginx.pid;
error_log stderr error;
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy;
  fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi;
  scgi_temp_path ${directory}/scgi;
  server {
    listen 127.0.0.1:${statusPort};
    location = /status { stub_status; }
  }
  server {
${ports.map((port) => `    listen 127.0.0.1:${port};`).join('\n')}
    location / { return 200 "ok"; }
  }
}
`
}

async function requestsSeen(statusPort) {
  // A connection per read: a kept one would have to be closed before nginx stops.
  const response = await fetch(`http://127.0.0.1:${statusPort}/status`, {
    headers: { connection: 'close' },
  })
  // The third number of the third line: "accepts handled requests".
  return Number((await response.text()).match(/\d+ \d+ (\d+)/)[1])
}

async function until(attempt) {
  for (let tries = 0; tries < 100; tries++) {
    try {
      return await attempt()
    } catch {
      await sleep(50)
    }
  }
  throw new Error('nginx did not answer within 5 s')
}
