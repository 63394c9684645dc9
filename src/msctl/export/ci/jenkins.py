"""`jenkins`: the same pipeline as a declarative Jenkinsfile (Docker Pipeline plugin)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msctl.export.ci import pipeline
from msctl.export.containers.images import Image
from msctl.export.kind import ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import project_name_label
from msctl.model.project import Project


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    namespace = project_name_label(options.namespace or project.name)
    repository = pipeline.repository(project, options)
    found = pipeline.built(project, options)

    def name(image: Image) -> str:
        return f"{image.repository}:$GIT_COMMIT"

    variables = "".join(
        f"                {name} = {_string(value)}\n" for name, value in pipeline.CHECK_VARIABLES.items()
    )
    head = "".join(f"// {line}".rstrip() + "\n" for line in pipeline.comment(project).splitlines())
    text = f"""\
{head}pipeline {{
    agent none
    options {{
        timeout(time: 30, unit: 'MINUTES')
        disableConcurrentBuilds()
        buildDiscarder(logRotator(numToKeepStr: '20'))
    }}
    stages {{
        stage('Check') {{
            agent {{ docker {{ image {_string(pipeline.PYTHON_IMAGE)} }} }}
            environment {{
                HOME = "${{env.WORKSPACE}}"
{variables}            }}
            steps {{
{_shell([*pipeline.install(), *pipeline.check(project)])}
            }}
            post {{
                always {{ sh '. .venv/bin/activate && msctl down' }}
            }}
        }}
        stage('Build') {{
            when {{ branch 'main' }}
            agent any
            steps {{
{_shell(pipeline.build(found, name))}
            }}
        }}
        stage('Deploy') {{
            when {{ branch 'main' }}
            agent any
            input {{ message 'Bring it to Kubernetes?' }}
            steps {{
{_shell(pipeline.deploy(project, found, name, namespace))}
            }}
        }}
    }}
}}
"""
    yield File("Jenkinsfile", text)
    yield from pipeline.notices()
    if options.image is None and options.registry is None:
        yield Notice(
            "--registry", f"the image is pushed as {repository!r}; name your registry with --registry"
        )


def _shell(commands: Sequence[str]) -> str:
    """Return one `sh` step; Groovy does not interpolate in single quotes."""
    lines = "\n".join(f"                    {command}" for command in commands)
    escaped = lines.replace("\\", "\\\\").replace("'''", "\\'\\'\\'")
    return f"                sh '''\n                    set -eu\n{escaped}\n                '''"


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


KIND = ExportKind(
    "jenkins",
    "A Jenkinsfile: check, build, deploy",
    render,
    frozenset({"image", "registry", "namespace"}),
)
