"""Reasons of cleanups are codes with facts. Until now they were English sentences."""

import re

from django.db import migrations, models

ROWS = 1_000  # read and saved at a time
DAY = r'(?P<since>\d{4}-\d\d-\d\d)'
REASONS = [
    (code, re.compile(pattern))
    for code, pattern in (
        ('attached', r'belongs to (?P<digest>.+)'),
        ('pattern', r'its name matches (?P<pattern>.+)'),
        ('newest', r'one of the newest (?P<number>\d+) of its image'),
        ('not-newest', r'the newest (?P<number>\d+) of its image are kept, and this is none of them'),
        ('no-rule', r'no rule takes it'),
        ('untagged-long', rf'no tag names it since {DAY}, more than (?P<days>\d+) days?'),
        ('untagged', rf'no tag names it since {DAY}'),
        ('old', rf'older than (?P<days>\d+) days?: (?:means this since|last pushed) {DAY}'),
        ('unpulled', rf'not pulled for (?P<days>\d+) days?: last wanted {DAY}'),
        ('changed', r'left: it was changed, or is needed, since it was judged'),
        ('needed', r'left: the index .+ still names .+'),
        ('gone', r'left: .+'),
    )
]
PROBLEMS = [
    (code, re.compile(pattern))
    for code, pattern in (
        ('policy-changed', r'the policy was changed'),
        ('other-approved', r'an earlier run was approved'),
        ('not-approved', r'not approved before the next run'),
        ('dismissed', r'dismissed by (?P<detail>.+)'),
        ('error', r'(?P<detail>.+)'),
    )
]


def fill(apps, schema_editor):
    alias = schema_editor.connection.alias
    lines, runs = (apps.get_model('registry', name).objects.using(alias) for name in ('CleanupLine', 'CleanupRun'))
    for line in walk(lines.only('reason'), lines, ['reason', 'facts']):
        sentence = line.reason
        line.reason, line.facts = parsed(REASONS, sentence, ('', {'words': sentence}))
        for name in {'number', 'days'} & line.facts.keys():
            line.facts[name] = int(line.facts[name])
    for run in walk(runs.exclude(problem='').only('problem'), runs, ['problem', 'problem_detail']):
        run.problem, facts = parsed(PROBLEMS, run.problem, ('error', {'detail': run.problem}))
        run.problem_detail = facts.get('detail', '')


def walk(rows, every, columns):
    """Yield the rows in the order of their ids, and save these columns of each batch."""
    last = 0
    while some := list(rows.filter(pk__gt=last).order_by('pk')[:ROWS]):
        yield from some
        every.bulk_update(some, columns)
        last = some[-1].pk


def parsed(table, sentence, otherwise):
    """The code of a sentence, and its facts."""
    matches = ((code, pattern.fullmatch(sentence)) for code, pattern in table)
    return next(((code, match.groupdict()) for code, match in matches if match), otherwise)


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0012_platforms_of_indexes'),
    ]

    operations = [
        migrations.AddField(
            model_name='cleanupline',
            name='facts',
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name='cleanuprun',
            name='problem_detail',
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=False),
        migrations.AlterField(
            model_name='cleanupline',
            name='reason',
            field=models.CharField(blank=True, choices=[('attached', 'Attached'), ('pattern', 'Pattern'), ('newest', 'Newest'), ('not-newest', 'Not Newest'), ('no-rule', 'No Rule'), ('old', 'Old'), ('unpulled', 'Unpulled'), ('untagged', 'Untagged'), ('untagged-long', 'Untagged Long'), ('changed', 'Changed'), ('needed', 'Needed'), ('gone', 'Gone')], max_length=20),
        ),
        migrations.AlterField(
            model_name='cleanuprun',
            name='problem',
            field=models.CharField(blank=True, choices=[('policy-changed', 'Policy Changed'), ('other-approved', 'Other Approved'), ('not-approved', 'Not Approved'), ('dismissed', 'Dismissed'), ('error', 'Error')], max_length=20),
        ),
    ]
