/** Labels of the live table and of summaries, in the languages of the people who read them. */

import { wantedProvider } from './demo-events.ts'
import { count, plural } from './figures.ts'

export type Language = 'en' | 'ko'

const en = {
  event: 'EVENT',
  id: 'EVENT ID',
  endpoint: 'ENDPOINT',
  attempt: 'TRY',
  status: 'STATUS',
  latency: 'LATENCY',
  next: 'NEXT',
  signature: 'SIGNATURE',
  batch: (events: number) => `batch of ${events}`,
  inTime: (time: string) => `in ${time}`,
  now: 'now',
  done: 'delivered',
  givenUp: 'given up',
  verdicts: { valid: 'valid', invalid: 'INVALID', unsigned: 'unsigned', unknown: 'unknown' },
  statistics: 'statistics of this data file',
  delivered: 'DELIVERED',
  failed: 'FAILED',
  success: 'SUCCESS',
  average: 'AVERAGE',
  attempts: 'ATTEMPTS',
  all: 'all',
  data: 'data',
  inbox: 'inbox',
  retries: 'retries',
  dev: {
    data: (file: string) => `${file}; a second start goes on with it`,
    inbox: (url: string) => `${url}; verifies every signature`,
    retries: (delays: string, pace: string) => `after ${delays}, …: ${pace} (--speed)`,
    pace: (times: string | null) =>
      `the standard retry schedule, ${times === null ? 'at its real pace' : `${times} times faster`}`,
    left: (deliveries: number) =>
      `Goes on with ${plural(deliveries, 'delivery', 'deliveries')} of an earlier run.`,
    endpoints: {} as Readonly<Record<string, string>>,
  },
  keys: 'Enter: 20 more events · a line of JSON: your own · Ctrl-C: end',
  allSettled: 'Everything is settled.',
  waiting: (count: string) => `${count} waiting`,
  goesOn: (count: string) => `${count} waiting; the next start goes on with them.`,
  send: {
    data: 'data',
    secret: 'secret',
    secretOnce: 'created for this target and shown only now: the receiver verifies with it',
    retry: 'retry',
    failedBefore: (deliveries: number) =>
      `${plural(deliveries, 'delivery', 'deliveries')} that failed`,
    disabled: (reason: string) => `The target is disabled: ${reason}. Nothing more is sent to it.`,
    figure: (label: string, value: string) => `${value} ${label}`,
    line: (number: number) => `line ${number}`,
    onlyCounted: 'Further bad lines are only counted.',
  },
  sum: {
    accepted: 'accepted',
    duplicates: 'duplicates',
    badLines: 'bad lines',
    delivered: 'delivered',
    failed: 'failed',
    failedEarlier: 'failed earlier',
    cancelled: 'cancelled',
    waiting: 'waiting',
    retries: 'retries',
    rate: 'rate',
    latency: 'latency',
    otherReasons: (reasons: number) => plural(reasons, 'other reason'),
    stopped: (data: string) =>
      `Stopped. ${data} keeps what is not sent yet; the same command goes on.`,
    addressBlocked:
      'The address is private: allow its network with --allow CIDR, or --allow-private.',
    retryFailed: 'The same command with --retry-failed sends again what failed.',
  },
  doctor: {
    // Others are said by the name that --json gives them.
    counts: {
      sealedBatches: 'sealed batches',
      intake: 'to take over',
      toFanOut: 'to fan out',
      lateAttempts: 'late attempts',
    } as Readonly<Record<string, string>>,
    unencrypted: 'unencrypted endpoints',
    underKey: (id: string) => `endpoints under key ${id}`,
    problem: 'PROBLEM',
    lacksKey: (id: string) => `KMSG_WEBHOOK_ENCRYPTION_KEYS lacks the key ${id}`,
    cases: (cases: number) => plural(cases, 'case'),
    broken: (invariants: number) =>
      `${plural(invariants, 'invariant')} broken. Keep a copy of the data before anything else.`,
    wouldNotStart: 'A service with these keys would not start.',
    well: 'No problem found.',
  },
  find: {
    tenant: (id: string) => `tenant ${id}`,
    noTenant: 'no tenant',
    accepted: (at: string) => `accepted ${at}`,
    attempts: (attempts: number) => plural(attempts, 'attempt'),
    due: (at: string) => `due ${at}`,
    creating: (deliveries: string) => `${deliveries} more deliveries are being created`,
    nobody: 'No delivery: no endpoint of its tenant took it.',
    unknown: (id: string) =>
      `No event and no delivery has the id ${id}: it was never accepted here, or retention has removed it.`,
  },
  migrate: {
    from: 'from',
    to: 'to',
    schema: (name: string) => `schema ${name}`,
    table: 'TABLE',
    read: 'READ',
    written: 'WRITTEN',
    source: 'SOURCE',
    target: 'TARGET',
    same: 'same',
    different: 'DIFFERENT',
    moved: (rows: number, tables: number) =>
      `${plural(rows, 'row')} of ${plural(tables, 'table')} moved, and read back as they were.`,
    next: 'Start the service on the new place only: from the old file, what waits would be sent a second time.',
    progress: (written: string, total: string) => `${written} of ${total} rows written`,
    stopped: 'Stopped: nothing was kept in the new place, and the file is as it was.',
  },
}

export type Words = typeof en

const ko: Words = {
  event: '이벤트',
  id: '이벤트 ID',
  endpoint: '엔드포인트',
  attempt: '시도',
  status: '상태',
  latency: '지연',
  next: '다음 시도',
  signature: '서명',
  batch: (events) => `배치 ${events}건`,
  inTime: (time) => `${time} 후`,
  now: '지금',
  done: '전달됨',
  givenUp: '포기함',
  verdicts: { valid: '유효', invalid: '무효', unsigned: '서명 없음', unknown: '알 수 없음' },
  statistics: '이 데이터 파일의 통계',
  delivered: '성공',
  failed: '실패',
  success: '성공률',
  average: '평균',
  attempts: '시도 수',
  all: '전체',
  data: '데이터',
  inbox: '수신함',
  retries: '재시도',
  dev: {
    data: (file) => `${file} (다시 시작하면 이어서 진행)`,
    inbox: (url) => `${url} (모든 서명을 검증)`,
    retries: (delays, pace) => `${delays}, … 후: ${pace} (--speed)`,
    pace: (times) => `표준 재시도 일정, ${times === null ? '실제 속도' : `${times}배 빠르게`}`,
    left: (deliveries) => `이전 실행에서 남은 전송 ${count(deliveries)}건을 이어서 보냅니다.`,
    endpoints: {
      healthy: '모든 이벤트를 받고 200으로 응답',
      flaky: '모든 이벤트를 받되 처음 두 번은 503, 그다음 200으로 응답',
      filtered: `metadata.providerId가 "${wantedProvider}"인 이벤트만 받음`,
      batched: '이벤트를 최대 10건씩 한 요청으로, 늦어도 1초 안에 받음',
    },
  },
  keys: 'Enter: 이벤트 20건 더 · JSON 한 줄: 직접 보내기 · Ctrl-C: 끝내기',
  allSettled: '모든 전송이 끝났습니다.',
  waiting: (count) => `${count}건 대기`,
  goesOn: (count) => `${count}건 대기 중이며, 다음에 시작하면 이어서 보냅니다.`,
  send: {
    data: '데이터',
    secret: '시크릿',
    secretOnce:
      '이 대상을 위해 만들었으며 지금 한 번만 표시합니다. 수신 측에서 이 값으로 검증합니다',
    retry: '재시도',
    failedBefore: (deliveries) => `실패한 전송 ${count(deliveries)}건`,
    disabled: (reason) => `대상이 비활성화되었습니다: ${reason}. 더 이상 보내지 않습니다.`,
    figure: (label, value) => `${label} ${value}`,
    line: (number) => `${number}번째 줄`,
    onlyCounted: '이후의 잘못된 줄은 개수만 셉니다.',
  },
  sum: {
    accepted: '접수',
    duplicates: '중복',
    badLines: '잘못된 줄',
    delivered: '전달',
    failed: '실패',
    failedEarlier: '이전 실패',
    cancelled: '취소',
    waiting: '대기',
    retries: '재시도',
    rate: '속도',
    latency: '지연',
    otherReasons: (reasons) => `그 밖의 이유 ${reasons}가지`,
    stopped: (data) =>
      `중단했습니다. 아직 보내지 못한 것은 ${data}에 남아 있으며, 같은 명령으로 이어서 보냅니다.`,
    addressBlocked:
      '사설 주소입니다. --allow CIDR로 그 네트워크를 허용하거나 --allow-private를 쓰세요.',
    retryFailed: '실패한 것은 같은 명령에 --retry-failed를 붙여 다시 보낼 수 있습니다.',
  },
  doctor: {
    counts: {
      events: '이벤트',
      endpoints: '엔드포인트',
      waiting: '대기',
      delivering: '전송 중',
      sealedBatches: '확정된 배치',
      intake: '인계 대기 이벤트',
      toFanOut: '생성할 전송',
      delivered: '전달됨',
      exhausted: '재시도 소진',
      rejected: '거부됨',
      cancelled: '취소됨',
      attempts: '시도',
      lateAttempts: '늦은 시도',
    },
    unencrypted: '암호화 안 된 엔드포인트',
    underKey: (id) => `키 ${id}의 엔드포인트`,
    problem: '문제',
    lacksKey: (id) => `KMSG_WEBHOOK_ENCRYPTION_KEYS에 없는 키: ${id}`,
    cases: (cases) => `${count(cases)}건`,
    broken: (invariants) =>
      `불변식 ${count(invariants)}개가 깨졌습니다. 다른 일을 하기 전에 데이터 사본부터 남기세요.`,
    wouldNotStart: '이 키로는 서비스가 시작되지 않습니다.',
    well: '문제가 없습니다.',
  },
  find: {
    tenant: (id) => `테넌트 ${id}`,
    noTenant: '테넌트 없음',
    accepted: (at) => `접수 ${at}`,
    attempts: (attempts) => `시도 ${count(attempts)}회`,
    due: (at) => `예정 ${at}`,
    creating: (deliveries) => `전송 ${deliveries}건을 더 만드는 중입니다`,
    nobody: '전송 없음: 이 이벤트를 받을 엔드포인트가 테넌트에 없었습니다.',
    unknown: (id) =>
      `ID가 ${id}인 이벤트나 전송이 없습니다. 이곳에 접수된 적이 없거나 보관 기간이 지나 삭제되었습니다.`,
  },
  migrate: {
    from: '원본',
    to: '대상',
    schema: (name) => `스키마 ${name}`,
    table: '테이블',
    read: '읽음',
    written: '기록',
    source: '원본 체크섬',
    target: '대상 체크섬',
    same: '일치',
    different: '불일치',
    moved: (rows, tables) =>
      `테이블 ${count(tables)}개의 ${count(rows)}행을 옮겼고, 다시 읽어 모두 일치함을 확인했습니다.`,
    next: '이제 서비스는 새 저장소에서만 시작하세요. 옛 파일로 시작하면 대기 중인 전송이 두 번 나갑니다.',
    progress: (written, total) => `${total}행 중 ${written}행 기록`,
    stopped: '중단했습니다. 대상에는 아무것도 남지 않았고, 파일은 그대로입니다.',
  },
}

export const wordsOf: Readonly<Record<Language, Words>> = { en, ko }

/** From the environment, as every Unix program reads it. */
export function languageOf(env: Readonly<Record<string, string | undefined>>): Language {
  const locale = env.LC_ALL || env.LC_MESSAGES || env.LANG || ''
  return /^ko\b|^ko_/.test(locale) ? 'ko' : 'en'
}
