// First steps of @kubernetes/client-node's README and examples, on pods of namespace shop.
// Prints what each saw, one JSON document in a line. CLIENTS is the folder of its packages.
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';

const require = createRequire(join(process.env.CLIENTS, 'package.json'));
const k8s = await import(pathToFileURL(require.resolve('@kubernetes/client-node')));
const namespace = 'shop';
const name = 'first-steps-javascript';
const labelSelector = 'first-steps=javascript';
const show = (step, seen) => console.log(JSON.stringify([step, seen]));

const kc = new k8s.KubeConfig();
kc.loadFromDefault();
const core = kc.makeApiClient(k8s.CoreV1Api);

class Text extends Writable {
  text = '';
  _write(chunk, _, done) {
    this.text += chunk;
    done();
  }
}

async function objects() {
  const body = { metadata: { name, labels: { 'first-steps': 'javascript' } }, data: { color: 'blue' } };
  const list = () => core.listNamespacedConfigMap({ namespace, labelSelector });
  const listed = await list();
  const made = await core.createNamespacedConfigMap({ namespace, body });
  show('create', [made.kind, made.apiVersion, made.data]);
  const patch = [{ op: 'add', path: '/data/size', value: '1' }];
  show('patch', (await core.patchNamespacedConfigMap({ name, namespace, body: patch })).data);
  const merged = await core.patchNamespacedConfigMap(
    { name, namespace, body: { data: { size: null } } },
    k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
  );
  show('merge patch', merged.data);
  merged.data = { color: 'green' };
  show('replace', (await core.replaceNamespacedConfigMap({ name, namespace, body: merged })).data);
  show('delete', (await core.deleteNamespacedConfigMap({ name, namespace })).status);
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const query = { labelSelector, resourceVersion: listed.metadata.resourceVersion };
  const seen = [];
  await new Promise((resolve, fail) => {
    let watching;
    new k8s.Watch(kc).watch(path, query, (type, object) => {
      seen.push([type, object.kind]);
      if (type === 'DELETED') {
        resolve();
        watching.abort();
      }
    }, (error) => error && error.name !== 'AbortError' && fail(error))
      .then((controller) => { watching = controller; }, fail);
  });
  show('watch', seen);
  try {
    await core.readNamespacedConfigMap({ name, namespace });
  } catch (error) {
    show('absent', [error.code, JSON.parse(error.body).reason]);
  }
  const informer = k8s.makeInformer(kc, path, list, labelSelector);
  const added = new Promise((resolve, fail) => {
    informer.on('add', (object) => resolve(object.metadata.name));
    informer.on('error', fail);
  });
  await informer.start();
  await core.createNamespacedConfigMap({ namespace, body });
  show('informer', await added);
  await informer.stop();
  await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector });
}

async function anyKind() {
  const client = k8s.KubernetesObjectApi.makeApiClient(kc);
  const spec = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data: { color: 'red' } };
  const ways = [undefined, undefined, 'first-steps', true, k8s.PatchStrategy.ServerSideApply];
  show('apply', (await client.patch(spec, ...ways)).data);
  show('delete again', (await client.delete(spec)).status);
}

async function pods() {
  const page = await core.listPodForAllNamespaces({ limit: 2 });
  show('limit', [page.items.length, Boolean(page.metadata._continue)]);
  const pod = (await core.listNamespacedPod({ namespace, labelSelector: 'app=web' })).items[0].metadata.name;
  const [out, errors] = [new Text(), new Text()];
  const command = ['sh', '-c', 'echo out; nope; exit 3'];
  const status = await new Promise((resolve, fail) => {
    new k8s.Exec(kc).exec(namespace, pod, 'web', command, out, errors, null, false, resolve).catch(fail);
  });
  show('exec', [out.text, errors.text.split(';')[0], status.status, status.details.causes[0].message]);
  const attached = new Text();
  const input = new PassThrough();
  const socket = await new k8s.Attach(kc).attach(namespace, pod, 'web', attached, null, input, true);
  const closed = once(socket, 'close');
  input.write('exit\r');
  await closed;
  show('attach', attached.text.includes('exit'));
  show('log', (await core.readNamespacedPodLog({ name: pod, namespace, tailLines: 3 })).trim().split('\n').length);
  const body = { metadata: { name }, spec: { containers: [{ name: 'c', image: 'example/one' }] } };
  await core.createNamespacedPod({ namespace, body });
  show('delete pod', (await core.deleteNamespacedPod({ name, namespace })).kind);
  const forward = new k8s.PortForward(kc);
  const server = createServer((client) => {
    forward.portForward(namespace, pod, [8080], client, null, client);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const client = connect(server.address().port, '127.0.0.1');
  client.write('GET / HTTP/1.1\r\nHost: pod\r\n\r\n');
  let text = '';
  for await (const chunk of client) {
    text += chunk;
    if (text.includes('hello')) break;
  }
  show('port-forward', text.split('\r\n\r\n')[1]);
}

await objects();
await anyKind();
await pods();
process.exit(0);
