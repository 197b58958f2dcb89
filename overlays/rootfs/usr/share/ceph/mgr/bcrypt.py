"""Stands before python3-bcrypt for Ceph's managers, and for nobody else.

Every module of a manager runs in an interpreter of its own and imports bcrypt, which since PyO3 0.20 loads in one
interpreter of a process: with the real one, all of Debian 13's modules fail, the placement groups' autoscaler and the
balancer among them. The one who would hash passwords is the dashboard, which the image does not have.
"""


def _refuse(*_arguments, **_options):
    raise NotImplementedError("this image hashes no passwords with bcrypt")


checkpw = gensalt = hashpw = kdf = _refuse
