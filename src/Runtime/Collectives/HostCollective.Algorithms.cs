using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

// The algorithms, on the group's thread. P: elements of a piece; n: elements of a shard; r: a rank.
public abstract unsafe partial class HostCollective
{
    private const int SmallBytes = 4 << 10;             // below, one exchange of everything beats two of parts
    private const int MovedPieces = 16;                 // pieces at a time where nothing is staged
    private const int PartAlignment = 64;               // elements

    private readonly ExchangePart[] _sent, _received;
    private byte* _staging;
    private Header* _headers;
    private byte** _inputs;

    private void Execute(in Operation operation)
    {
        CompareHeaders(operation);
        switch (operation.Kind)
        {
            case CollectiveOperation.AllReduce or CollectiveOperation.HostAllReduce:
                RunAllReduce(operation);
                break;
            case CollectiveOperation.ReduceScatter:
                RunReduceScatter(operation);
                break;
            case CollectiveOperation.AllGather or CollectiveOperation.Split:
                RunAllGather(operation);
                break;
            case CollectiveOperation.AllToAll:
                RunAllToAll(operation);
                break;
            case CollectiveOperation.Broadcast:
                RunBroadcast(operation);
                break;
            case CollectiveOperation.Barrier:
                break;                                  // the headers were the barrier
            default:
                throw new InvalidOperationException($"operation {operation.Kind}");
        }
    }

    /// <summary>Every rank sees what every other was asked to do.</summary>
    private void CompareHeaders(in Operation operation)
    {
        var own = new Header
        {
            Magic = Header.Mark,
            Operation = operation.Kind,
            Element = operation.Element,
            Reduction = (byte)operation.Reduction,
            Root = operation.Root,
            Piece = _piece,
            Sequence = operation.Sequence,
            Count = operation.Count,
        };
        _headers[Rank] = own;
        for (var r = 0; r < Size; r++)
        {
            _sent[r] = new((byte*)(_headers + Rank), sizeof(Header));
            _received[r] = new((byte*)(_headers + r), sizeof(Header));
        }

        Exchange();
        for (var r = 0; r < Size; r++)
        {
            if (!_headers[r].Equals(own))
            {
                throw new CollectiveException(Mismatch(r, _headers[r], own));
            }
        }
    }

    private string Mismatch(int peer, Header theirs, Header own)
    {
        var (other, self) = (_worldRanks[peer], _worldRanks[Rank]);
        if (theirs.Magic != own.Magic)
        {
            return $"rank {other} sent no header at #{own.Sequence} of group {Group}, where rank {self} called {own.Describe(false)}";
        }

        if (theirs.Piece != own.Piece)
        {
            return $"rank {other} exchanges pieces of {theirs.Piece:N0} bytes, "
                + $"rank {self} of {own.Piece:N0}: CollectiveOptions.PieceBytes must agree";
        }

        var reductions = theirs.Reduction != own.Reduction;
        var at = theirs.Sequence == own.Sequence ? "" : $" at #{own.Sequence}";
        return $"rank {other} called {theirs.Describe(reductions)} at #{theirs.Sequence}, rank {self} {own.Describe(reductions)}{at}"
            + (Group == CollectiveRecord.World ? "" : $", in group {Group}");
    }

    private void RunAllReduce(in Operation operation)
    {
        var data = operation.From;
        var size = CollectiveElement.SizeOf(operation.Element);
        if (operation.Count * size <= Math.Max(SmallBytes, _piece / Size / 4))
        {
            GatherAndReduce(operation);
            return;
        }

        var most = PieceElements(size);
        for (var done = 0L; done < operation.Count;)
        {
            var window = Math.Min(operation.Count - done, most * Size);
            var part = PartOf(window);
            var start = data + (done * size);
            var (ownFirst, ownCount) = Part(Rank, part, window);
            for (var r = 0; r < Size; r++)
            {
                var (first, count) = Part(r, part, window);
                _sent[r] = new(start + (first * size), count * size);
                _received[r] = new(_staging + ((long)r * _piece), ownCount * size);
                _inputs[r] = r == Rank ? start + (ownFirst * size) : _received[r].Pointer;
            }

            Exchange();
            RankReduce.Run(operation.Element, operation.Reduction, _inputs, Size, start + (ownFirst * size), ownCount);
            GatherParts(start, size, part, window, root: -1);
            done += window;
        }
    }

    /// <summary>Few values: everyone gets everything and adds for itself.</summary>
    private void GatherAndReduce(in Operation operation)
    {
        var bytes = operation.Count * CollectiveElement.SizeOf(operation.Element);
        for (var r = 0; r < Size; r++)
        {
            _sent[r] = new(operation.From, bytes);
            _received[r] = new(_staging + ((long)r * _piece), bytes);
            _inputs[r] = r == Rank ? operation.From : _received[r].Pointer;
        }

        Exchange();
        RankReduce.Run(operation.Element, operation.Reduction, _inputs, Size, operation.From, operation.Count);
    }

    private void RunReduceScatter(in Operation operation)
    {
        var (size, n) = (CollectiveElement.SizeOf(operation.Element), operation.Count);
        var most = PieceElements(size);
        for (var done = 0L; done < n; done += most)
        {
            var count = Math.Min(n - done, most);
            for (var r = 0; r < Size; r++)
            {
                _sent[r] = new(operation.From + (((r * n) + done) * size), count * size);
                _received[r] = new(_staging + ((long)r * _piece), count * size);
                _inputs[r] = r == Rank ? _sent[r].Pointer : _received[r].Pointer;
            }

            Exchange();
            RankReduce.Run(operation.Element, operation.Reduction, _inputs, Size, operation.To + (done * size), count);
        }
    }

    private void RunAllGather(in Operation operation)
    {
        var (size, n) = (CollectiveElement.SizeOf(operation.Element), operation.Count);
        var own = operation.To + (Rank * n * size);
        if (own != operation.From)
        {
            Buffer.MemoryCopy(operation.From, own, n * size, n * size);
        }

        var most = PieceElements(size) * MovedPieces;
        for (var done = 0L; done < n; done += most)
        {
            var count = Math.Min(n - done, most);
            for (var r = 0; r < Size; r++)
            {
                _sent[r] = new(own + (done * size), count * size);
                _received[r] = new(operation.To + (((r * n) + done) * size), count * size);
            }

            Exchange();
        }
    }

    private void RunAllToAll(in Operation operation)
    {
        var size = CollectiveElement.SizeOf(operation.Element);
        var n = operation.Count / Size;
        Buffer.MemoryCopy(operation.From + (Rank * n * size), operation.To + (Rank * n * size), n * size, n * size);
        var most = PieceElements(size) * MovedPieces;
        for (var done = 0L; done < n; done += most)
        {
            var count = Math.Min(n - done, most);
            for (var r = 0; r < Size; r++)
            {
                _sent[r] = new(operation.From + (((r * n) + done) * size), count * size);
                _received[r] = new(operation.To + (((r * n) + done) * size), count * size);
            }

            Exchange();
        }
    }

    /// <summary>Large data go out from the root in parts, one to each rank, which then pass them on: the root sends 2 - 2/Size of it, not
    /// Size - 1.</summary>
    private void RunBroadcast(in Operation operation)
    {
        var (size, root) = (CollectiveElement.SizeOf(operation.Element), operation.Root);
        var most = PieceElements(size) * MovedPieces;
        for (var done = 0L; done < operation.Count;)
        {
            var window = Math.Min(operation.Count - done, most);
            var start = operation.From + (done * size);
            var whole = Size == 2 || window * size <= SmallBytes;
            var part = whole ? window : PartOf(window);
            for (var r = 0; r < Size; r++)
            {
                var (first, count) = whole ? (0, window) : Part(r, part, window);
                var (ownFirst, ownCount) = whole ? (0, window) : Part(Rank, part, window);
                _sent[r] = Rank == root ? new(start + (first * size), count * size) : default;
                _received[r] = r == root && Rank != root ? new(start + (ownFirst * size), ownCount * size) : default;
            }

            Exchange();
            if (!whole)
            {
                GatherParts(start, size, part, window, root);
            }

            done += window;
        }
    }

    /// <summary>Every rank but the root, which has all, gets each part of the window from the rank that has it.</summary>
    private void GatherParts(byte* start, int size, long part, long window, int root)
    {
        var (ownFirst, ownCount) = Part(Rank, part, window);
        for (var r = 0; r < Size; r++)
        {
            var (first, count) = Part(r, part, window);
            _sent[r] = r == root ? default : new(start + (ownFirst * size), ownCount * size);
            _received[r] = Rank == root ? default : new(start + (first * size), count * size);
        }

        Exchange();
    }

    private void Exchange()
    {
        if (Size == 1)
        {
            return;
        }

        _monitor.ThrowIfFailed();
        _sent[Rank] = default;
        _received[Rank] = default;
        Exchange(_sent, _received);
    }

    private long PieceElements(int size) => _piece / size / PartAlignment * PartAlignment;

    private long PartOf(long window) => ((window + Size - 1) / Size + PartAlignment - 1) / PartAlignment * PartAlignment;

    private static (long First, long Count) Part(int rank, long part, long window)
    {
        var first = Math.Min(rank * part, window);
        return (first, Math.Min(part, window - first));
    }

    /// <summary>What each rank tells the others before an operation.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Header
    {
        public const int Mark = 0x7A31_4331;

        public int Magic;
        public CollectiveOperation Operation;
        public byte Element, Reduction, Zero;
        public int Root, Piece;
        public long Sequence, Count;

        public readonly bool Equals(in Header other) =>
            Magic == other.Magic && Operation == other.Operation && Element == other.Element
            && Reduction == other.Reduction && Root == other.Root
            && Piece == other.Piece && Sequence == other.Sequence && Count == other.Count;

        public readonly string Describe(bool reduction) =>
            CollectiveRecord.Describe(Operation, Count, Element, Root) + (reduction ? $" ({(Reduction)Reduction})" : "");
    }
}
