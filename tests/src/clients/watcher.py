"""Asks each member of ZooKeeper and of Postgres, and Ceph's monitors, in each second, as clients do, and says in JSON, a line
for each second and service, who has answered in it; until its stdin ends. Who does not answer within the second is not
there. What it needs lies in /mnt."""
import json, os, socket, ssl, sys, threading, time

SOON, AGAIN = 0.9, 0.1


def tell(**what):
    print(json.dumps(what), flush=True)


class Asked:
    """One that is asked in each second until it has answered, by a thread of its own: one that hangs keeps nobody else
    waiting. While leaders change, nobody answers for less than a second: whoever asks once may miss all the rest of it."""

    def __init__(self, ask):
        self.ask, self.answers = ask, {}
        threading.Thread(target=self.go_on, daemon=True).start()

    def go_on(self):
        while True:
            now = time.time()
            second = int(now) + 1
            time.sleep(second - now)
            while time.time() < second + SOON and not self.has_answered(second):
                time.sleep(AGAIN)

    def has_answered(self, second):
        try:
            answer = self.ask()
        except Exception:
            return False
        if time.time() < second + 1:
            self.answers[second] = answer
        return True


def zookeeper(address):
    context = ssl.create_default_context(cafile="/mnt/authority.pem")
    context.check_hostname = False
    context.load_cert_chain("/mnt/node.pem", "/mnt/node.key")

    def ask():
        # A server that is in no quorum closes the connection.
        with socket.create_connection((address, 2281), timeout=SOON) as plain:
            with context.wrap_socket(plain) as stream:
                stream.sendall(b"srvr")
                text = b""
                while part := stream.recv(4096):
                    text += part
        modes = [line.split(": ")[1] for line in text.decode().splitlines() if line.startswith("Mode: ")]
        return modes[0]

    return ask


class Postgres:
    QUESTION = """select pg_is_in_recovery(), count(*) filter (where state = 'streaming'),
        count(*) filter (where sync_state in ('sync', 'quorum')) from pg_stat_replication"""

    def __init__(self, address, told):
        self.address, self.told, self.connection = address, told, None

    def __call__(self):
        import psycopg2
        try:
            if not self.connection:
                self.connection = psycopg2.connect(host=self.address, port=self.told["port"], user="postgres",
                    password=self.told["password"], dbname="postgres", sslmode="verify-ca", connect_timeout=2,
                    sslrootcert="/mnt/authority.pem", sslcert="/mnt/node.pem", sslkey="/mnt/node.key",
                    tcp_user_timeout=1000, options="-c statement_timeout=900")
                self.connection.autocommit = True
            with self.connection.cursor() as cursor:
                cursor.execute(self.QUESTION)
                return cursor.fetchone()
        except Exception:
            if self.connection:
                self.connection.close()
            self.connection = None
            raise


class Ceph:
    def __init__(self):
        self.cluster = None

    def __call__(self):
        import rados
        if not self.cluster:
            cluster = rados.Rados(conffile="/mnt/ceph.conf", name="client.admin",
                conf={"keyring": "/mnt/ceph.keyring", "rados_mon_op_timeout": "1"})
            cluster.connect(timeout=5)
            self.cluster = cluster
        code, text, _ = self.cluster.mon_command('{"prefix": "status", "format": "json"}', b"")
        status = json.loads(text)
        states = status["pgmap"].get("pgs_by_state", [])
        inactive = sum(it["count"] for it in states if "active" not in it["state_name"].split("+"))
        osds = status["osdmap"]
        return {"quorum": len(status["quorum_names"]), "up": osds["num_up_osds"], "osds": osds["num_osds"], "inactive": inactive}


def main():
    told = json.load(open("/mnt/told.json"))
    keepers = {name: Asked(zookeeper(address)) for name, address in told["members"]}
    databases = {name: Asked(Postgres(address, told["postgres"])) for name, address in told["members"]}
    ceph = Asked(Ceph())

    def say(second):
        modes = {name: it.answers.pop(second) for name, it in keepers.items() if second in it.answers}
        tell(zookeeper={"second": second, "serve": len(modes),
            "leader": next((name for name, mode in modes.items() if mode == "leader"), None)})
        rows = {name: it.answers.pop(second) for name, it in databases.items() if second in it.answers}
        leads = [(name, row) for name, row in rows.items() if not row[0]]
        name, row = leads[0] if len(leads) == 1 else (None, (None, 0, 0))
        tell(postgres={"second": second, "answer": len(rows), "leader": name, "streaming": row[1], "sync": row[2]})
        tell(ceph={"second": second, "seen": ceph.answers.pop(second, None)})

    def watch():
        second = int(time.time()) + 1
        while True:
            time.sleep(max(0.0, second + 1.1 - time.time()))
            say(second)
            second += 1

    threading.Thread(target=watch, daemon=True).start()
    sys.stdin.read()
    # A library that hangs keeps nobody from leaving.
    os._exit(0)


main()
