// The official JavaScript client (npm @kubernetes/client-node) as a driver; see driver_client.py.
// Arguments: kubeconfig, namespace. NODE_MODULES_AT is the folder that the package is installed in.
import { createRequire } from 'node:module';
import { PassThrough, Writable } from 'node:stream';
import { createServer, connect } from 'node:net';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const require = createRequire(join(process.env.NODE_MODULES_AT, 'package.json'));
const found = require.resolve('@kubernetes/client-node');
const k8s = await import(pathToFileURL(found));
const version = JSON.parse(
  readFileSync(join(process.env.NODE_MODULES_AT, 'node_modules/@kubernetes/client-node/package.json')),
).version;
const [kubeconfig, namespace] = process.argv.slice(2);

let config;
const kc = () => {
  if (!config) {
    config = new k8s.KubeConfig();
    config.loadFromFile(kubeconfig);
  }
  return config;
};
const core = () => kc().makeApiClient(k8s.CoreV1Api);
// The API server orders managers by time, in whole seconds: which of two comes first is chance.
const order = ({ manager, operation, fieldsV1 }) => JSON.stringify([manager, operation, fieldsV1]);
const sorted = (value) =>
  JSON.stringify(value, (key, v) => {
    if (key === 'managedFields') return [...v].sort((a, b) => (order(a) < order(b) ? -1 : 1));
    return v && typeof v === 'object' && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v;
  }, 1);

class Notes {
  outcomes = [];
  note(step, output, code = 0, errors = '') {
    const text = typeof output === 'string' ? output : sorted(output) ?? '';
    this.outcomes.push({ step, code, output: text, errors });
  }
  async call(step, action) {
    try {
      this.note(step, await action());
    } catch (error) {
      if (typeof error.code !== 'number') throw error;
      const body = typeof error.body === 'string' ? error.body : sorted(error.body);
      this.note(step, '', error.code, body);
    }
  }
}
const configMap = (name, data, labels = {}) => ({
  apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, labels }, data,
});
const within = (seconds, what, promise) => {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`${what} took over ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

class Collected extends Writable {
  text = '';
  _write(chunk, _, done) {
    this.text += chunk.toString();
    done();
  }
}

async function execute(n, step, command, typed = null) {
  const [out, errors] = [new Collected(), new Collected()];
  // Its end would close the whole WebSocket where the protocol is older than v5.
  const input = typed === null ? null : new PassThrough();
  input?.write(typed);
  const status = await within(30, step, new Promise((resolve, fail) => {
    new k8s.Exec(kc())
      .exec(namespace, 'web', 'web', command, out, errors, input, false, resolve)
      .then((socket) => { socket.on('error', fail); }, fail);
  }));
  n.note(step, out.text, 0, errors.text);
  n.note(`${step}: status`, status);
}

async function followChanges(n, name, options) {
  const labelSelector = `app=${name}`;
  const list = await core().listNamespacedConfigMap({ namespace, labelSelector });
  const seen = [];
  await core().createNamespacedConfigMap({ namespace, body: configMap(name, { sky: 'blue' }, { app: name }) });
  const body = [{ op: 'replace', path: '/data/sky', value: 'grey' }];
  await core().patchNamespacedConfigMap({ name, namespace, body });
  await core().deleteNamespacedConfigMap({ name, namespace });
  const query = { ...options, labelSelector, resourceVersion: list.metadata.resourceVersion };
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  await within(30, 'the watch', new Promise((resolve, fail) => {
    let stop = null;
    new k8s.Watch(kc()).watch(path, query, (type, object) => {
      seen.push([type, object.metadata.name, object.data ?? null]);
      if (type === 'DELETED') { stop?.abort(); resolve(); }
    }, (error) => (error && error.name !== 'AbortError' ? fail(error) : resolve()))
      .then((controller) => { stop = controller; }, fail);
  }));
  n.note('events', seen);
}

async function smallSet(n) {
  await n.call('list', () => core().listNamespacedPod({ namespace, labelSelector: 'app=quiet' }));
  await followChanges(n, 'addressed', {});
  await execute(n, 'exec', ['echo', 'hello']);
  await n.call('logs', () => core().readNamespacedPodLog({ name: 'quiet', namespace, limitBytes: 14 }));
  await n.call('version', () => kc().makeApiClient(k8s.VersionApi).getCode());
  await n.call('absent', () => core().readNamespacedPod({ name: 'absent', namespace }));
}

const operations = {
  async 'get-json'(n) {
    await n.call('read', () => core().readNamespacedPod({ name: 'quiet', namespace }));
    await n.call('list', () => core().listNamespacedPod({ namespace }));
    await n.call('node', () => core().readNode({ name: 'lab-node' }));
  },
  async selectors(n) {
    const list = (more) => core().listNamespacedPod({ namespace, ...more });
    await n.call('labels', () => list({ labelSelector: 'app in (web)' }));
    await n.call('fields', () => list({ fieldSelector: 'metadata.name=quiet' }));
    await n.call('nonsense', () => list({ fieldSelector: 'nonsense=1' }));
  },
  watch: (n) => followChanges(n, 'seen', {}),
  async informer(n) {
    const labelSelector = 'app=informed';
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const list = () => core().listNamespacedConfigMap({ namespace, labelSelector });
    const informer = k8s.makeInformer(kc(), path, list, labelSelector);
    const seen = [];
    const gone = new Promise((resolve, fail) => {
      for (const kind of ['add', 'update', 'delete']) {
        informer.on(kind, (object) => {
          seen.push([kind, object.metadata.name, object.data ?? null]);
          if (kind === 'delete') resolve();
        });
      }
      informer.on('error', fail);
    });
    await informer.start();
    const body = configMap('informed', { sky: 'blue' }, { app: 'informed' });
    await core().createNamespacedConfigMap({ namespace, body });
    const patch = [{ op: 'replace', path: '/data/sky', value: 'grey' }];
    await core().patchNamespacedConfigMap({ name: 'informed', namespace, body: patch });
    await core().deleteNamespacedConfigMap({ name: 'informed', namespace });
    await within(30, 'the informer', gone);
    await informer.stop();
    n.note('events', seen);
  },
  // An informer tells of an error and has ended; its documentation starts it again then.
  async 'informer-restart'(n) {
    const labelSelector = 'app=lasting';
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const list = () => core().listNamespacedConfigMap({ namespace, labelSelector });
    const informer = k8s.makeInformer(kc(), path, list, labelSelector);
    const gone = new Set();
    informer.on('delete', (object) => gone.add(object.metadata.name));
    const start = () => informer.start().catch(again);
    const again = () => { setTimeout(start, 500); };
    informer.on('error', again);
    const known = () => Object.fromEntries(informer.list(namespace).map((o) => [o.metadata.name, o.data]));
    const until = (what, condition) => within(60, what, (async () => {
      while (!condition()) await new Promise((r) => { setTimeout(r, 50); });
    })());
    await informer.start();
    await until('the first list', () => Object.keys(known()).length === 3);
    answer({ ready: true });
    await nextLine();
    await until('what happened after the restart', () => 'last' in known());
    await informer.stop();
    n.note('known', known());
    n.note('told to be gone', [...gone].sort());
  },
  async 'apply-server'(n) {
    const objects = k8s.KubernetesObjectApi.makeApiClient(kc());
    const apply = (sky, manager, force) => objects.patch(
      { ...configMap('applied', { sky }), metadata: { name: 'applied', namespace } },
      undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply,
    );
    await n.call('apply', () => apply('blue', 'one', undefined));
    await n.call('conflict', () => apply('grey', 'other', undefined));
    await n.call('force', () => apply('grey', 'other', true));
    await core().deleteNamespacedConfigMap({ name: 'applied', namespace });
  },
  async pagination(n) {
    for (let i = 0; i < 7; i += 1) {
      const body = configMap(`page-${i}`, {}, { app: 'pages' });
      await core().createNamespacedConfigMap({ namespace, body });
    }
    let _continue;
    do {
      const page = await core().listNamespacedConfigMap({
        namespace, labelSelector: 'app=pages', limit: 3, _continue,
      });
      n.note('page', [page.items.map((i) => i.metadata.name), page.metadata.remainingItemCount ?? null]);
      _continue = page.metadata._continue;
    } while (_continue);
    await core().deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'app=pages' });
  },
  async gzip(n) {
    for (let i = 0; i < 10; i += 1) {
      const body = configMap(`large-${i}`, { text: 'abcdefgh'.repeat(5000) }, { app: 'large' });
      await core().createNamespacedConfigMap({ namespace, body });
    }
    const labelSelector = 'app=large';
    const list = await core().listNamespacedConfigMap({ namespace, labelSelector });
    n.note('items', list.items.map((item) => item.data.text.length));
    await core().deleteCollectionNamespacedConfigMap({ namespace, labelSelector });
  },
  async create(n) {
    const body = configMap('made', { sky: 'blue' });
    await n.call('create', () => core().createNamespacedConfigMap({ namespace, body }));
    await n.call('read', () => core().readNamespacedConfigMap({ name: 'made', namespace }));
    await n.call('delete', () => core().deleteNamespacedConfigMap({ name: 'made', namespace }));
  },
  async replace(n) {
    const body = configMap('made', { sky: 'blue' });
    const made = await core().createNamespacedConfigMap({ namespace, body });
    made.data = { sky: 'grey' };
    const replace = () => core().replaceNamespacedConfigMap({ name: 'made', namespace, body: made });
    await n.call('replace', replace);
    await n.call('stale', replace);
    await core().deleteNamespacedConfigMap({ name: 'made', namespace });
  },
  async patch(n) {
    await core().createNamespacedConfigMap({ namespace, body: configMap('made', { sky: 'blue' }) });
    const objects = k8s.KubernetesObjectApi.makeApiClient(kc());
    const kinds = k8s.PatchStrategy;
    const change = (data) => ({ ...configMap('made', data), metadata: { name: 'made', namespace } });
    for (const [name, kind] of [['strategic', kinds.StrategicMergePatch], ['merge', kinds.MergePatch]]) {
      await n.call(name, () =>
        objects.patch(change({ [name]: 'yes' }), undefined, undefined, 'js', undefined, kind));
    }
    await n.call('apply', () =>
      objects.patch(change({ applied: 'yes' }), undefined, undefined, 'js', true, kinds.ServerSideApply));
    await core().deleteNamespacedConfigMap({ name: 'made', namespace });
  },
  async 'dry-run'(n) {
    const body = configMap('tried', {});
    await n.call('create', () => core().createNamespacedConfigMap({ namespace, body, dryRun: 'All' }));
    await n.call('read', () => core().readNamespacedConfigMap({ name: 'tried', namespace }));
  },
  async 'large-body'(n) {
    for (const size of [1000000, 2900000]) {
      const body = configMap('heavy', { text: 'x'.repeat(size) });
      await n.call(`${size} bytes`, () => core().createNamespacedConfigMap({ namespace, body }));
    }
    await core().deleteNamespacedConfigMap({ name: 'heavy', namespace });
  },
  async logs(n) {
    const log = (more) => core().readNamespacedPodLog({ name: 'quiet', namespace, ...more });
    await n.call('all', () => log({}));
    await n.call('tail', () => log({ tailLines: 2 }));
    await n.call('absent', () => log({ container: 'absent' }));
  },
  async 'logs-follow'(n) {
    const out = new PassThrough();
    let text = '';
    const enough = new Promise((resolve) => {
      out.on('data', (data) => { text += data; if (text.split('\n').length > 10) resolve(); });
    });
    const stop = await new k8s.Log(kc()).log(namespace, 'web', 'web', out, { follow: true });
    await within(30, 'ten lines', enough);
    stop.abort();
    n.note('ten lines', text.split('\n').slice(0, 10));
  },
  async exec(n) {
    await execute(n, 'echo', ['echo', 'hello']);
    await execute(n, 'exit code', ['sh', '-c', 'echo broken >&2; exit 7']);
  },
  'exec-stdin': (n) => execute(n, 'head', ['head', '-n', '2'], 'one\ntwo\n'),
  'exec-large': (n) => execute(n, '4 MiB', ['sh', '-c', 'seq 1 600000']),
  async attach(n) {
    const [out, errors] = [new Collected(), new Collected()];
    const input = new PassThrough();
    const socket = await new k8s.Attach(kc())
      .attach(namespace, 'quiet', 'quiet', out, errors, input, false);
    input.write('said to the pod\n');
    await within(20, 'the echo', (async () => {
      while (!out.text.includes('said')) await new Promise((r) => { setTimeout(r, 20); });
    })());
    socket.close();
    n.note('attach', out.text, 0, errors.text);
  },
  async 'port-forward'(n) {
    const forward = new k8s.PortForward(kc());
    const server = createServer((socket) => {
      forward.portForward(namespace, 'web', [8080], socket, null, socket);
    });
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    for (let i = 0; i < 2; i += 1) {
      const text = await within(20, 'the answer', new Promise((resolve, fail) => {
        let seen = '';
        const socket = connect(server.address().port, '127.0.0.1');
        socket.write('GET / HTTP/1.0\r\n\r\n');
        socket.on('data', (data) => {
          seen += data;
          if (seen.includes('hello from the pod')) { socket.destroy(); resolve(seen); }
        });
        socket.on('error', fail);
      }));
      n.note(`connection ${i}`, text.split('\r\n\r\n')[1]);
    }
    server.close();
  },
  async 'can-i'(n) {
    const reviews = kc().makeApiClient(k8s.AuthorizationV1Api);
    for (const [verb, resource] of [['get', 'pods'], ['delete', 'nodes']]) {
      const body = { spec: { resourceAttributes: { verb, resource } } };
      const answer = await reviews.createSelfSubjectAccessReview({ body });
      n.note(`${verb} ${resource}`, { allowed: answer.status.allowed });
    }
  },
  async 'can-i-list'(n) {
    const reviews = kc().makeApiClient(k8s.AuthorizationV1Api);
    const answer = await reviews.createSelfSubjectRulesReview({ body: { spec: { namespace } } });
    const shown = (rules) => rules.map((rule) => sorted(rule)).sort();
    n.note('rules', [shown(answer.status.resourceRules), shown(answer.status.nonResourceRules)]);
  },
  async 'api-resources'(n) {
    await n.call('core', () => core().getAPIResources());
    await n.call('groups', () => kc().makeApiClient(k8s.ApisApi).getAPIVersions());
    await n.call('version', () => kc().makeApiClient(k8s.VersionApi).getCode());
  },
  async 'error-404'(n) {
    await n.call('pod', () => core().readNamespacedPod({ name: 'absent', namespace }));
    const body = configMap('any', {});
    await n.call('namespace', () =>
      core().createNamespacedConfigMap({ namespace: 'absent-namespace', body }));
  },
  async 'error-409'(n) {
    const body = configMap('once', {});
    await core().createNamespacedConfigMap({ namespace, body });
    await n.call('again', () => core().createNamespacedConfigMap({ namespace, body }));
    await core().deleteNamespacedConfigMap({ name: 'once', namespace });
  },
  async 'error-422'(n) {
    const body = configMap('Not_A_Name', {});
    await n.call('name', () => core().createNamespacedConfigMap({ namespace, body }));
  },
  'by-path': smallSet,
  'by-host': smallSet,
  'by-token': smallSet,
  'static-token': smallSet,
};

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function nextLine() {
  const { value, done } = await lines.next();
  return done ? null : value;
}
const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
console.log = console.error;
process.on('unhandledRejection', (error) => console.error('unhandled', error));
process.on('uncaughtException', (error) => console.error('uncaught', error));
answer({ client: `JavaScript ${version}`, operations: Object.keys(operations) });
for (let key = await nextLine(); key !== null; key = await nextLine()) {
  const notes = new Notes();
  try {
    await within(80, key, operations[key.trim()](notes));
    answer({ outcomes: notes.outcomes });
  } catch (error) {
    console.error(error);
    answer({ broken: `${error}` });
  }
}
process.exit(0);
