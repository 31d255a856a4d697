using Xunit;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Tests.Trainer.Decode;

/// <summary>Random histories of a pool against a plain model of it: who holds which page, and what the page was filled with.</summary>
public sealed class PagePoolTests
{
    [Theory, InlineData(1), InlineData(2), InlineData(3)]
    public void Counts_add_up_and_a_prefix_found_holds_its_tokens(int seed)
    {
        const int PageTokens = 2;
        var random = new Random(seed);
        var pool = new PagePool(9, PageTokens);
        var content = new int[9][];
        var held = new List<int[]>();
        var found = 0;
        for (var step = 0; step < 2000; step++)
        {
            if (held.Count > 0 && random.Next(2) == 0)
            {
                var i = random.Next(held.Count);
                pool.Release(held[i]);
                held.RemoveAt(i);
            }
            else
            {
                var tokens = Enumerable.Range(0, PageTokens * random.Next(1, 4)).Select(_ => random.Next(2)).ToArray();
                var pages = new int[tokens.Length / PageTokens];
                var prefix = pool.HoldPrefix(tokens, pages);
                found += prefix;
                for (var p = 0; p < prefix; p++)
                {
                    Assert.Equal(tokens[..((p + 1) * PageTokens)], content[pages[p]]);
                }

                var taken = prefix;
                while (taken < pages.Length && pool.TryTake(out pages[taken]))
                {
                    Assert.NotEqual(0, pages[taken]);
                    Assert.DoesNotContain(held, h => h.Contains(pages[taken]));
                    content[pages[taken]] = tokens[..(++taken * PageTokens)];
                }

                pool.Publish(tokens.AsSpan(0, taken * PageTokens), pages);
                held.Add(pages[..taken]);
            }

            Assert.Equal(pool.Pages - held.SelectMany(h => h).Distinct().Count(), pool.Free);
        }

        Assert.True(found > 100, $"only {found} pages were ever shared");
        held.ForEach(h => pool.Release(h));
        Assert.Equal(8, pool.Free);
    }

    [Fact]
    public void A_page_is_let_go_of_once()
    {
        var pool = new PagePool(2, 4);
        Assert.True(pool.TryTake(out var page));
        Assert.False(pool.TryTake(out _));
        pool.Release([page]);
        Assert.Throws<InvalidOperationException>(() => pool.Release([page]));
        Assert.Throws<InvalidOperationException>(() => pool.Release([0]));
    }
}
