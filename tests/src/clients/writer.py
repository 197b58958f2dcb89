"""Writes a number each 100 ms into ZooKeeper, Postgres or an RBD image, and again as long as it fails, until its stdin ends.
Meanwhile it says how each second went; then it reads all that was said to be written, and says how it went, all in JSON, a
line each. What it needs lies in /mnt."""
import collections, json, logging, select, struct, sys, threading, time

PERIOD, SOON = 0.1, 2.0


class ZooKeeper:
    def __init__(self, told):
        from kazoo.client import KazooClient
        # It looks for a server as often as it writes: what is measured is the service, not how long a client holds back.
        again = {"max_tries": -1, "delay": PERIOD, "backoff": 1, "max_jitter": 0.0}
        hosts = ",".join(f"[{it}]:2281" if ":" in it else f"{it}:2281" for _, it in told["members"])
        self.client = KazooClient(hosts=hosts, use_ssl=True, verify_certs=True, ca="/mnt/authority.pem",
            certfile="/mnt/node.pem", keyfile="/mnt/node.key", auth_data=[("digest", told["account"])], timeout=10.0,
            connection_retry=again)
        self.client.start(timeout=60)
        self.client.ensure_path("/writer")

    def write(self, number):
        from kazoo.exceptions import NodeExistsError
        try:
            self.client.create_async(f"/writer/{number}", b"").get(timeout=SOON)
        except NodeExistsError:
            pass  # The one before had come through after all.

    def again(self):
        pass

    def read(self):
        self.client.sync("/writer")
        return {int(name) for name in self.client.get_children("/writer")}


class Postgres:
    def __init__(self, told):
        self.told, self.connection = told["postgres"], None
        self.hosts = ",".join(address for _, address in told["members"])
        self.again()
        self.execute("create table writer (number bigint primary key)")

    def execute(self, *statement):
        with self.connection.cursor() as cursor:
            cursor.execute(*statement)
            return cursor.fetchall() if cursor.description else None

    def write(self, number):
        self.execute("insert into writer values (%s) on conflict do nothing", (number,))

    def again(self):
        import psycopg2
        if self.connection:
            self.connection.close()
        self.connection = psycopg2.connect(host=self.hosts, port=self.told["port"], user="postgres", password=self.told["password"],
            dbname="postgres", target_session_attrs="read-write", sslmode="verify-ca", sslrootcert="/mnt/authority.pem",
            sslcert="/mnt/node.pem", sslkey="/mnt/node.key", connect_timeout=2, tcp_user_timeout=3000,
            options="-c statement_timeout=5000")
        self.connection.autocommit = True

    def read(self):
        return {row[0] for row in self.execute("select number from writer")}


class Rbd:
    SLOT = 512

    def __init__(self, _):
        import rados, rbd
        self.cluster = rados.Rados(conffile="/mnt/ceph.conf", name="client.admin", conf={"keyring": "/mnt/ceph.keyring"})
        self.cluster.connect(timeout=30)
        self.pool = self.cluster.open_ioctx("machines")
        rbd.RBD().create(self.pool, "writer", 64 << 20)
        self.image = rbd.Image(self.pool, "writer")

    def write(self, number):
        self.image.write(struct.pack("<Q", number + 1), number * self.SLOT)

    def again(self):
        pass

    def read(self):
        data = self.image.read(0, 64 << 20)
        found = (struct.unpack_from("<Q", data, at)[0] for at in range(0, len(data), self.SLOT))
        return {number - 1 for number in found if number}


class Seconds:
    """How each second went: said when it is over, also while a write hangs."""

    def __init__(self):
        self.lock, self.last, self.over = threading.Lock(), time.time(), threading.Event()
        self.written, self.errors, self.pauses = (collections.Counter() for _ in range(3))
        self.thread = threading.Thread(target=self.say, daemon=True)
        self.thread.start()

    def wrote(self):
        with self.lock:
            now = time.time()
            second, pause = int(now), now - self.last
            for over in range(int(self.last), second):
                self.pauses[over] = max(self.pauses[over], over + 1 - self.last)
            self.written[second] += 1
            self.pauses[second], self.last = max(self.pauses[second], pause), now

    def failed(self):
        with self.lock:
            self.errors[int(time.time())] += 1

    def say(self):
        second = int(time.time())
        while not self.over.wait(second + 1.05 - time.time()):
            with self.lock:
                pause = max(self.pauses.pop(second, 0.0), second + 1 - self.last)
                said = {"second": second, "written": self.written.pop(second, 0), "errors": self.errors.pop(second, 0),
                    "pause": round(pause, 2)}
            tell(second=said)
            second += 1


def tell(**what):
    print(json.dumps(what), flush=True)


def main():
    logging.disable()  # Connections that are lost are told as errors.
    kind, told = sys.argv[1], json.load(open("/mnt/told.json"))
    place = {"zookeeper": ZooKeeper, "postgres": Postgres, "rbd": Rbd}[kind](told)
    tell(writes=True)
    seconds = Seconds()
    number, errors, pauses, kinds, fails = 0, 0, [], {}, False
    last = begin = time.monotonic()
    ends = False
    while not ends or fails:
        begin = time.monotonic()
        try:
            if fails:
                place.again()
            place.write(number)
            now = time.monotonic()
            pauses.append((now - last, time.time()))
            seconds.wrote()
            number, last, fails = number + 1, now, False
        except Exception as error:
            seconds.failed()
            errors, fails = errors + 1, True
            kinds[type(error).__name__] = kinds.get(type(error).__name__, 0) + 1
        left = max(0.0, begin + PERIOD - time.monotonic())
        ends = bool(select.select([sys.stdin], [], [], left)[0]) or ends
        if ends:
            time.sleep(left)
    seconds.over.set()
    seconds.thread.join()
    found = place.read()
    lost = [it for it in range(number) if it not in found]
    order = sorted(pauses, reverse=True)
    tell(report={"kind": kind, "written": number, "errors": errors, "kinds": kinds, "lost": lost,
        "worst": order[0][0], "median": order[len(order) // 2][0],
        "longest": [[round(seconds, 2), round(at)] for seconds, at in order[:8]]})


main()
