"""What every suite shares: fixtures of the local stack, started once and only if asked for."""

pytest_plugins = ["tests.support.stack"]
