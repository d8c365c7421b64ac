"""Keys and certificates of the cluster, made once by openssl, and the kubeconfig files that carry them."""

import base64
from dataclasses import dataclass
from pathlib import Path

from local_cluster import settings, shell
from local_cluster.paths import State

VALID_DAYS = 3650
CA, FRONT_PROXY_CA = "ca", "front-proxy-ca"


@dataclass(frozen=True)
class Certificate:
    """One leaf certificate; `names` and `addresses` are its subject alternative names (servers only)."""

    name: str
    common_name: str
    organization: str = ""
    authority: str = CA
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        return (f"/O={self.organization}" if self.organization else "") + f"/CN={self.common_name}"

    @property
    def extensions(self) -> tuple[str, ...]:
        usage = "serverAuth" if self.addresses else "clientAuth"
        alternatives = [*(f"DNS:{name}" for name in self.names), *(f"IP:{a}" for a in self.addresses)]
        extensions = (
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature,keyEncipherment",
            f"extendedKeyUsage={usage}",
        )
        return (*extensions, f"subjectAltName={','.join(alternatives)}") if alternatives else extensions


_API_SERVICE = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
_NODE_USER = f"system:node:{settings.NODE_NAME}"

CERTIFICATES = (
    Certificate(
        "apiserver",
        "kube-apiserver",
        names=("localhost", *_API_SERVICE),
        addresses=("127.0.0.1", settings.NODE_ADDRESS, settings.API_SERVICE_ADDRESS),
    ),
    Certificate("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
    Certificate("front-proxy-client", "front-proxy-client", authority=FRONT_PROXY_CA),
    Certificate(
        "kubelet-server",
        _NODE_USER,
        "system:nodes",
        names=(settings.NODE_NAME,),
        addresses=(settings.NODE_ADDRESS, "127.0.0.1"),
    ),
)
CLIENTS = (
    Certificate("admin", "admin", "system:masters"),
    Certificate("kube-controller-manager", "system:kube-controller-manager"),
    Certificate("kube-scheduler", "system:kube-scheduler"),
    Certificate("kube-proxy", "system:kube-proxy"),
    Certificate("kubelet", _NODE_USER, "system:nodes"),
    Certificate("csi-provisioner", "system:kube-csi-provisioner"),
    Certificate("csi-resizer", "system:kube-csi-resizer"),
)
"""These get a kubeconfig file each, config/NAME.kubeconfig; the admin's is the user's one."""

_OPENSSL_CONFIG = "[req]\ndistinguished_name=subject\n[subject]\n"  # the machine's own one adds extensions


def ensure(state: State) -> None:
    """Makes everything unless it is there; complete once `pki/complete` exists."""
    complete = state.pki / "complete"
    if complete.exists():
        return
    state.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    state.config.mkdir(parents=True, exist_ok=True)
    (state.pki / "openssl.cnf").write_text(_OPENSSL_CONFIG)
    _authority(state.pki, CA, "kubernetes-ca")
    _authority(state.pki, FRONT_PROXY_CA, "front-proxy-ca")
    for certificate in (*CERTIFICATES, *CLIENTS):
        _sign(state.pki, certificate)
    shell.run(["openssl", "genrsa", "-out", state.pki / "sa.key", "2048"])
    shell.run(["openssl", "rsa", "-in", state.pki / "sa.key", "-pubout", "-out", state.pki / "sa.pub"])
    for client in CLIENTS:
        path = state.kubeconfig if client.name == "admin" else state.config / f"{client.name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(kubeconfig(state.pki, client.name))
    complete.touch()


def _request(folder: Path, name: str, subject: str, extensions: tuple[str, ...]) -> list[str | Path]:
    return [
        "openssl", "req", "-x509", "-config", folder / "openssl.cnf", "-sha256", "-days", str(VALID_DAYS), "-nodes",
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", folder / f"{name}.key",
        "-out", folder / f"{name}.crt", "-subj", subject,
        *(word for extension in extensions for word in ("-addext", extension)),
    ]  # fmt: skip


def _authority(folder: Path, name: str, common_name: str) -> None:
    usages = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign",
              "subjectKeyIdentifier=hash")  # fmt: skip
    shell.run(_request(folder, name, f"/CN={common_name}", usages))


def _sign(folder: Path, certificate: Certificate) -> None:
    request = _request(folder, certificate.name, certificate.subject, certificate.extensions)
    authority = folder / certificate.authority
    shell.run([*request, "-CA", authority.with_suffix(".crt"), "-CAkey", authority.with_suffix(".key")])


def kubeconfig(folder: Path, client: str) -> str:
    """A kubeconfig with everything inside, for one of CLIENTS."""

    def encoded(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    return f"""\
apiVersion: v1
kind: Config
current-context: knowledgebeast-local
contexts:
- name: knowledgebeast-local
  context: {{cluster: knowledgebeast-local, user: {client}}}
clusters:
- name: knowledgebeast-local
  cluster:
    server: {settings.API_URL}
    certificate-authority-data: {encoded(f"{CA}.crt")}
users:
- name: {client}
  user:
    client-certificate-data: {encoded(f"{client}.crt")}
    client-key-data: {encoded(f"{client}.key")}
"""
