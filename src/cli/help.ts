/** The help of every command, in the languages of the people who read it. */
import { Help, type HelpConfiguration } from 'commander'
import { displayWidth } from './text-width.ts'
import type { Language } from './words.ts'

const en = {
  program: 'Durable, signed webhook delivery from the command line.',
  version: 'output the version number',
  debug: 'show the stack of an error',
  help: 'display help for command',
  moreHelp: '(--help tells more)',
  lang: 'language of labels and help',
  fromEnvironment: 'from LANG',
  place: 'the file of a service, or postgres://user@host/database',
  schema: 'schema of the tables in a database (default: kmsg)',
  exits: `
Exit codes:
  0    all is well
  1    something failed: a delivery, a line that send was given, a check, a search
  2    wrong usage
  130  stopped with Ctrl-C; the same command of send goes on, of migrate begins anew;
       dev has no other end: 0

Environment:
  NO_COLOR             no colours
  LANG                 ko_… shows Korean labels and help
  KMSG_WEBHOOK_SECRET  the secret of send, so that it is not in the process list
  KMSG_WEBHOOK_ENCRYPTION_KEYS
                       keys that encrypt secrets in data files, newest first, separated by commas
  PGPASSWORD           the password of a database, so that it is not in the process list
`,
  dev: {
    summary: 'see it work: events, retries, batches and signatures, live',
    description: `Starts the real engine on an embedded SQLite file and an inbox on 127.0.0.1 that verifies signatures; registers four endpoints (healthy; flaky: fails twice per event; filtered; batched); dispatches one event of each of the 20 types, then whatever arrives on standard input, one event as JSON per line; and shows every attempt as it happens.

On a terminal it stays until Ctrl-C. With other input it ends when the input has ended and every delivery is settled. A second start with the same data file goes on with what was left.`,
    port: 'port of the inbox on 127.0.0.1 (default: 4010)',
    data: 'where events and deliveries are kept',
    speed: 'how much faster than real the retry schedule runs',
  },
  send: {
    summary: 'deliver the events of a file or of standard input to a URL',
    description: `Accepts the events durably, delivers them signed, retries, waits until all of them are settled, and prints a summary. Progress goes to standard error, the summary to standard output.

Ctrl-C stops cleanly. A second run with the same file, URL and data file goes on: what was accepted before is a duplicate and is not sent twice. That is known by the events' ids; a line of a file without one gets an id made from its number and content, a line of standard input a random one. A missing timestamp becomes the present time.`,
    file: 'events, one JSON object per line; - reads standard input',
    to: 'where to send them',
    secret: 'signs the requests; one is created and shown when omitted',
    data: 'where events and deliveries are kept (default: a file per URL)',
    allow: 'a network the URL may be in although it is private; repeatable',
    allowPrivate: 'allow 127.0.0.0/8, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, ::1, fc00::/7',
    schedule:
      'delays before retries: fast (6 within a minute), standard (9 within 75 h), or ms,ms,…',
    concurrency: 'requests under way at the same time',
    retryFailed: 'first send again what failed in earlier runs',
    examples: 'Examples:',
  },
  doctor: {
    summary: 'check a data file or database for anything lost, doubled or contradictory',
    description:
      'Opens the file or the database read-only, also while services use it, prints what it holds, and checks every invariant: that nothing accepted is lost, nothing settled is due again, and so on. Where KMSG_WEBHOOK_ENCRYPTION_KEYS is set, also that a service could start with these keys. Exits with 1 when something is wrong.',
    json: 'print the report as JSON',
  },
  find: {
    summary: 'find an event by its id alone, in every tenant',
    description: `Opens the file or the database read-only, also while services use it, and prints the event of this id in every tenant that has one, or the event of this delivery: its tenant, and for each delivery the endpoint, state, attempts, when it ended or is due, its id, and why. Exits with 1 when there is none.

Why a delivery waits, and what each attempt met, tells explainEvent(id, { tenantId }) or getEvent of a service.`,
    id: 'of an event or a delivery',
    json: 'print what is found as JSON',
  },
  migrate: {
    summary: 'move everything from a data file to PostgreSQL',
    description: `Copies endpoints with their secrets (as they are stored, encrypted or not), events, deliveries, attempts and statistics. Deliveries that wait go on when a service starts on the new place, and count their attempts on; an event id that was accepted stays known.

One transaction: every table is read back and compared by its checksum before it is committed. When something differs, or with Ctrl-C, nothing stays in the new place, and the same command begins anew. No service may use the file meanwhile; the file is only read. The schema has to be empty or new.`,
    from: 'sqlite:FILE, such as sqlite:./.k-msg/webhooks.db',
    schema: 'schema of the tables there, empty or new (default: kmsg)',
  },
  key: {
    summary: 'make a key that encrypts secrets in the data file',
    description:
      'Prints a new key on standard output. Give it to services in KMSG_WEBHOOK_ENCRYPTION_KEYS, before older keys and a comma; an older key can be left out once doctor and health() count no endpoint under it. Keep it apart from the data file and its backups: who has both reads the secrets, and without it nobody does.',
    id: 'its name among your keys (default: made from the date)',
  },
}

export type HelpTexts = typeof en

const ko: HelpTexts = {
  program: '서명된 웹훅을 유실 없이 보내는 명령줄 도구입니다.',
  version: '버전 출력',
  debug: '오류의 스택 표시',
  help: '도움말 표시',
  moreHelp: '(자세한 사용법: --help)',
  lang: '라벨과 도움말의 언어',
  fromEnvironment: 'LANG에 따름',
  place: '서비스의 데이터 파일 또는 postgres://user@host/database',
  schema: '데이터베이스에서 테이블이 있는 스키마 (기본값: kmsg)',
  exits: `
종료 코드:
  0    정상
  1    실패한 것이 있음: 전송, send에 넣은 줄, 검사, 검색
  2    잘못된 사용법
  130  Ctrl-C로 중단. 같은 명령을 다시 실행하면 send는 이어서, migrate는 처음부터 진행.
       dev는 Ctrl-C로 끝내는 것이 정상이므로 0

환경 변수:
  NO_COLOR             색을 쓰지 않음
  LANG                 ko_…이면 라벨과 도움말을 한국어로 표시
  KMSG_WEBHOOK_SECRET  send의 시크릿. 프로세스 목록에 드러나지 않게 할 때 사용
  KMSG_WEBHOOK_ENCRYPTION_KEYS
                       데이터 파일의 시크릿을 암호화하는 키. 새 키부터 쉼표로 구분
  PGPASSWORD           데이터베이스 비밀번호. 프로세스 목록에 드러나지 않게 할 때 사용
`,
  dev: {
    summary: '이벤트, 재시도, 배치, 서명이 동작하는 모습을 실시간으로 보기',
    description: `내장 SQLite 파일로 실제 엔진을 띄우고, 서명을 검증하는 수신함을 127.0.0.1에 엽니다. 엔드포인트 네 개(healthy, 이벤트마다 두 번 실패하는 flaky, filtered, batched)를 등록하고 20가지 타입의 이벤트를 하나씩 보낸 뒤, 표준 입력으로 들어오는 이벤트(한 줄에 JSON 하나)를 보내며 모든 시도를 바로 보여 줍니다.

터미널에서는 Ctrl-C를 누를 때까지 계속됩니다. 입력이 터미널이 아니면 입력이 끝나고 모든 전송이 완료될 때 종료합니다. 같은 데이터 파일로 다시 시작하면 남은 것부터 이어서 진행합니다.`,
    port: '127.0.0.1에 여는 수신함의 포트 (기본값: 4010)',
    data: '이벤트와 전송을 저장할 파일',
    speed: '재시도 일정을 실제보다 몇 배 빠르게 진행할지',
  },
  send: {
    summary: '파일이나 표준 입력의 이벤트를 URL로 보내기',
    description: `이벤트를 디스크에 접수하고, 서명해서 보내고, 실패하면 재시도하며, 모두 끝날 때까지 기다린 뒤 요약을 출력합니다. 진행 상황은 표준 오류로, 요약은 표준 출력으로 나갑니다.

Ctrl-C를 누르면 안전하게 멈춥니다. 같은 파일, URL, 데이터 파일로 다시 실행하면 이어서 진행하며, 이미 접수한 이벤트는 중복으로 처리되어 두 번 보내지 않습니다. 중복은 이벤트의 id로 판단합니다. id가 없으면 파일에서는 줄 번호와 내용으로, 표준 입력에서는 무작위로 만듭니다. timestamp가 없으면 현재 시각을 넣습니다.`,
    file: '이벤트 파일(한 줄에 JSON 객체 하나). -는 표준 입력',
    to: '보낼 주소',
    secret: '요청에 서명할 시크릿. 생략하면 만들어서 보여 줌',
    data: '이벤트와 전송을 저장할 파일 (기본값: URL마다 하나)',
    allow: '사설 네트워크지만 전송을 허용할 대역. 여러 번 지정 가능',
    allowPrivate: '127.0.0.0/8, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, ::1, fc00::/7 허용',
    schedule: '재시도 간격: fast(1분 안에 6번), standard(75시간 안에 9번), 또는 ms,ms,…',
    concurrency: '동시에 보내는 요청 수',
    retryFailed: '이전 실행에서 실패한 것부터 다시 보내기',
    examples: '예시:',
  },
  doctor: {
    summary: '데이터 파일이나 데이터베이스에 유실, 중복, 모순이 없는지 검사',
    description:
      '파일이나 데이터베이스를 읽기 전용으로 열어(서비스가 쓰는 중이어도 됩니다) 들어 있는 것을 집계하고 모든 불변식을 검사합니다. 접수한 것이 사라지지 않았는지, 끝난 것이 다시 예정되지 않았는지 등입니다. KMSG_WEBHOOK_ENCRYPTION_KEYS가 설정되어 있으면 그 키로 서비스가 시작될 수 있는지도 확인합니다. 문제가 있으면 종료 코드는 1입니다.',
    json: '결과를 JSON으로 출력',
  },
  find: {
    summary: 'id만으로 모든 테넌트에서 이벤트 찾기',
    description: `파일이나 데이터베이스를 읽기 전용으로 열어(서비스가 쓰는 중이어도 됩니다) 이 id의 이벤트를 가진 모든 테넌트에서, 또는 이 전송의 이벤트를 찾아 출력합니다. 테넌트와 함께 전송마다 엔드포인트, 상태, 시도 횟수, 끝났거나 예정된 시각, 전송 id, 이유를 보여 줍니다. 없으면 종료 코드는 1입니다.

왜 대기 중인지, 시도마다 무슨 일이 있었는지는 서비스의 explainEvent(id, { tenantId })나 getEvent로 확인하세요.`,
    id: '이벤트나 전송의 id',
    json: '찾은 것을 JSON으로 출력',
  },
  migrate: {
    summary: '데이터 파일의 모든 것을 PostgreSQL로 옮기기',
    description: `엔드포인트와 시크릿(암호화 여부와 관계없이 저장된 그대로), 이벤트, 전송, 시도, 통계를 복사합니다. 대기 중인 전송은 새 저장소에서 서비스가 시작되면 시도 횟수를 이어서 진행하고, 접수했던 이벤트 id는 계속 기억합니다.

전체가 하나의 트랜잭션입니다. 커밋하기 전에 모든 테이블을 다시 읽어 체크섬으로 비교합니다. 다른 것이 있거나 Ctrl-C를 누르면 대상에는 아무것도 남지 않으며, 같은 명령은 처음부터 다시 진행합니다. 그동안 어떤 서비스도 이 파일을 쓰면 안 되고, 파일은 읽기만 합니다. 스키마는 비어 있거나 새것이어야 합니다.`,
    from: 'sqlite:파일. 예: sqlite:./.k-msg/webhooks.db',
    schema: '대상 스키마. 비어 있거나 새것이어야 함 (기본값: kmsg)',
  },
  key: {
    summary: '데이터 파일의 시크릿을 암호화하는 키 만들기',
    description:
      '새 키를 표준 출력으로 내보냅니다. 서비스의 KMSG_WEBHOOK_ENCRYPTION_KEYS에서 옛 키들 앞에 쉼표로 구분해 넣으세요. 옛 키는 doctor와 health()에서 그 키로 암호화된 엔드포인트가 없어지면 빼도 됩니다. 데이터 파일과 백업에서 떨어진 곳에 보관하세요. 둘 다 가진 사람은 시크릿을 읽을 수 있고, 키가 없으면 아무도 읽을 수 없습니다.',
    id: '여러 키 중에서 이 키의 이름 (기본값: 날짜로 만듦)',
  },
}

export const helpOf: Readonly<Record<Language, HelpTexts>> = { en, ko }

/** Words of the parser's own. */
const parserWords: Readonly<Record<Language, readonly (readonly [string, string])[]>> = {
  en: [],
  ko: [
    ['Usage:', '사용법:'],
    ['Arguments:', '인자:'],
    ['Options:', '옵션:'],
    ['Commands:', '명령:'],
    ['default:', '기본값:'],
    ['choices:', '값:'],
    ['env:', '환경 변수:'],
  ],
}

export function helpConfiguration(language: Language): HelpConfiguration {
  const translated = (text: string): string =>
    parserWords[language].reduce((said, [word, ours]) => said.replace(word, ours), text)
  return {
    // Hangul takes two cells: counted as one, a line would be broken by the terminal once more.
    displayWidth,
    styleTitle: translated,
    optionDescription(option) {
      return translated(Help.prototype.optionDescription.call(this, option))
    },
  }
}
