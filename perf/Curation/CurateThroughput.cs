using System.Diagnostics;
using System.Text;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Data.Journal;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Perf;

/// <summary>
/// How many items a second <c>z1 curate trajectories</c> finishes when the teacher answers at once: reading, request over HTTP on
/// loopback, answer, record, group commit with fsync. The teacher runs in the same process, so its cost is in the figure.
/// </summary>
public static class CurateThroughput
{
    /// <summary>Items worked on at once.</summary>
    public const int Concurrency = 64;

    private const int ProblemWords = 40;

    /// <summary>What a line of <see cref="CurateResult"/> shows.</summary>
    public const string Header =
        "curate: items/s, µs an item (p20 p50 p80 over rounds), items a commit, managed heap after the first and the last round";

    /// <summary>Rounds of <paramref name="items"/> items each, all into one file in <paramref name="directory"/>.</summary>
    public static async Task<CurateResult> RunAsync(string directory, int items, int rounds, int answerCharacters = 1500)
    {
        var reply = LoopbackReply.Answer(new string('x', answerCharacters));
        using var server = new LoopbackTeacher(_ => reply);
        using var teacher = new TeacherClient(new TeacherOptions { BaseUrl = server.BaseUrl, Concurrency = Concurrency },
            TeacherApi.Completions, "loopback");
        var prompt = PromptFile.Load(Trajectories.Prompt, null, "problem");
        var decoding = new DecodingParameters();
        var fingerprint = new RequestFingerprint("trajectories", "loopback", TeacherApi.Completions, [prompt], decoding);
        var (micros, heap) = (new double[rounds], new long[rounds]);
        long commits;
        using (var journal = new ItemJournal(Path.Combine(directory, "out.jsonl"), fingerprint, allowChanged: false))
        {
            for (var round = 0; round < rounds; round++)
            {
                var problems = Path.Combine(directory, $"problems{round}.jsonl");
                Write(problems, items, round);
                var progress = new CurationProgress(items, teacher);
                var clock = Stopwatch.StartNew();
                await CurationRun.RunAsync(
                    Problem.Read([problems], null, BrokenLinePolicy.Stop, new DataReport(), withResponse: false), p => p.Key, p => p.Id,
                    (problem, cancellation) => Trajectories.AskAsync(teacher, prompt, decoding, problem, cancellation), journal, progress,
                    new CurationOptions { Concurrency = Concurrency }, CancellationToken.None).ConfigureAwait(false);
                micros[round] = clock.Elapsed.TotalMicroseconds / items;
                heap[round] = GC.GetTotalMemory(forceFullCollection: true);
                if (progress.Kept != items)
                {
                    throw new InvalidOperationException($"{progress.Kept} of {items} items were kept");
                }
            }

            commits = journal.Commits;
        }

        Array.Sort(micros);
        return new CurateResult(items, rounds, micros[rounds / 5], micros[rounds / 2], micros[rounds * 4 / 5],
            (double)items * rounds / commits, heap[0], heap[^1]);
    }

    private static void Write(string path, int items, int round)
    {
        using var file = new StreamWriter(path, append: false, new UTF8Encoding(false));
        var words = string.Join(' ', Enumerable.Range(0, ProblemWords).Select(i => $"word{i}"));
        for (var i = 0; i < items; i++)
        {
            file.Write($"{{\"question\": \"Problem {round}-{i}: {words}\"}}\n");
        }
    }
}
