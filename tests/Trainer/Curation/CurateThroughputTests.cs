using Xunit;
using Z1Coder.Perf;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>
/// The measurement itself is z1 perf run --suite curate. Here only bounds that a loaded machine keeps: items share commits, and what is
/// live after the last round is no more than after the first, though the file is three times as long.
/// </summary>
[Collection("alone")]       // the live heap is the process's: other tests would be in it
public sealed class CurateThroughputTests
{
    [Fact]
    public async Task Items_share_commits_and_memory_does_not_grow_with_them()
    {
        // an item's key alone, held in memory, would be 6,000 x 16 bytes and more, each time; what the process itself takes once is not.
        // Answers are short so that a commit of all items in flight fits the journal's first buffer: its growth, which depends on how
        // slow an fsync is, would be taken for the items' own
        var growth = long.MaxValue;
        for (var attempt = 0; attempt < 3 && growth >= 96_000; attempt++)
        {
            var folder = Directory.CreateTempSubdirectory("z1-throughput-").FullName;
            try
            {
                var result = await CurateThroughput.RunAsync(folder, items: 3000, rounds: 3, answerCharacters: 100);
                Assert.True(result.ItemsPerSecond > 50, result.ToString());
                Assert.True(result.ItemsPerCommit > 2, result.ToString());
                Assert.Equal(9000, File.ReadLines(Path.Combine(folder, "out.jsonl")).Count());
                growth = Math.Min(growth, result.LastHeap - result.FirstHeap);
            }
            finally
            {
                Directory.Delete(folder, recursive: true);
            }
        }

        Assert.True(growth < 96_000, $"{growth:N0} bytes more are live after the last round than after the first, in each of three runs");
    }
}
