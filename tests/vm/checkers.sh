# Runs in the image's package layer, beside the files of one node. A file that is refused ends it with a failure.
set -euo pipefail
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
while read -r path mode owner; do
    chmod "$mode" "$path"
    chown "$owner" "$path"
    folder=${path%/*}
    [[ $folder != /run/trilith/* ]] || { chmod 0700 "$folder"; chown "$owner" "$folder"; }
done < owners
chmod 0755 /run/trilith

vtysh --dryrun --inputfile /etc/frr/frr.conf
nft --check --file /etc/nftables.conf
# Twice: the table that is there is replaced.
nft --file /etc/nftables.conf
nft --file /etc/nftables.conf
chronyd -p -f /etc/chrony/chrony.conf > /dev/null
mkdir -p /run/sshd
sshd -t -o HostKey=/run/trilith/ssh/ssh_host_ed25519_key
[[ $(ceph-conf -c /etc/ceph/ceph.conf --lookup fsid) == ????????-*-*-*-???????????? ]]
[[ $(ceph-conf -c /etc/ceph/ceph.conf -n osd.0 --show-config-value ms_client_mode) == secure ]]
openssl verify -CAfile /run/trilith/libvirt/cacert.pem /run/trilith/libvirt/servercert.pem > /dev/null
[[ ! -e /run/trilith/rsyslog ]] || rsyslogd -N1 -f /etc/rsyslog.conf

# It ends by itself, for nobody asks anything of it, and with a failure where it cannot read its files: and on a busy host
# where its time is over before it has begun.
echo 0123456789abcdef0123456789abcdef > /etc/machine-id
mkdir -p /var/log/libvirt /run/libvirt
libvirtd --timeout 1 || libvirtd --timeout 10 || libvirtd --timeout 60

if [[ -d /run/trilith/patroni ]]; then
    # ZooKeeper is not there, which is no fault of the file.
    said=$(runuser -u postgres -- patroni --ignore-listen-port --validate-config /run/trilith/patroni/patroni.yml 2>&1) ||
        ! grep -v 'is not reachable$' <<< "$said"
    ceph-authtool --list /run/trilith/ceph/monitors.keyring > /dev/null

    # ZooKeeper refuses a wrong configuration at once, and otherwise waits for the others.
    address=$(sed -n 's/^secureClientPortAddress=//p' /etc/zookeeper/zoo.cfg)
    [[ $address == *:* ]] && long=128 || long=32
    ip address add "$address/$long" dev lo
    sed -n 's/^server\.\([0-9]*\)=\[\{0,1\}\([^]]*[^]:]\)\]\{0,1\}:2888:3888$/\1 \2/p' /etc/zookeeper/zoo.cfg |
        while read -r number member; do [[ $member != "$address" ]] || echo "$number"; done > /var/lib/zookeeper/myid
    chown -R zookeeper: /var/lib/zookeeper
    jars=/usr/share/java
    # It would run for ever: its word ends this, and a minute of a busy host without one is a refusal.
    exec 3< <(exec timeout 60 runuser -u zookeeper -- java -Xmx128m \
        -cp $jars/zookeeper.jar:$jars/slf4j-simple.jar:$jars/netty-codec.jar:$jars/netty-handler.jar:$jars/netty-transport-native-epoll.jar \
        org.apache.zookeeper.server.quorum.QuorumPeerMain /etc/zookeeper/zoo.cfg 2>&1)
    said=
    until [[ $said == *"binding to port /$address:2281"* || $said == *"bound to port 2281"* ]]; do
        read -r line <&3 || { echo "$said" >&2; exit 1; }
        said+=$line$'\n'
    done
    kill $!
fi
echo all taken
